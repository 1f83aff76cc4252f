//! What a claim's interval must satisfy: `> 0.05`, `>= 0`, `< 1`, `<= 1`, `in [-0.02, 0.02]`; what a control's must.

use std::fmt;

use postgrad_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// A claim's condition.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Condition {
    /// Above a bound; `true` where the bound itself will do.
    Above(f64, bool),
    Below(f64, bool),
    /// Equivalence: within two bounds.
    In(f64, f64),
}

/// A control's: the same, or nearly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tolerance {
    /// Every seed's value is 0.
    Exact,
    /// The interval lies within this of 0.
    Within(f64),
}

impl Condition {
    pub fn parse(text: &str) -> Result<Self> {
        let fault = || {
            Error::usage(format!("`{text}` is no condition"))
                .help("write `> 0.05`, `>= 0`, `< 0`, `<= 0` or `in [-0.02, 0.02]`")
        };
        let number = |s: &str| s.trim().parse::<f64>().ok().filter(|x| x.is_finite()).ok_or_else(fault);
        let text = text.trim();
        if let Some(list) = text.strip_prefix("in").map(str::trim).and_then(|t| t.strip_prefix('[')?.strip_suffix(']'))
        {
            let (low, high) = list.split_once(',').ok_or_else(fault)?;
            let (low, high) = (number(low)?, number(high)?);
            if low > high {
                return Err(Error::usage(format!("`{text}` holds nothing: {low} is above {high}")));
            }
            return Ok(Self::In(low, high));
        }
        let (above, rest) = match text.strip_prefix('>') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('<').ok_or_else(fault)?),
        };
        let (equal, rest) = rest.strip_prefix('=').map_or((false, rest), |r| (true, r));
        let bound = number(rest)?;
        Ok(if above { Self::Above(bound, equal) } else { Self::Below(bound, equal) })
    }

    /// Whether the whole interval satisfies it.
    pub(super) fn holds(self, low: f64, high: f64) -> bool {
        match self {
            Self::Above(c, equal) => low > c || (equal && low == c),
            Self::Below(c, equal) => high < c || (equal && high == c),
            Self::In(a, b) => a <= low && high <= b,
        }
    }

    /// Whether the whole interval violates its sign: lies below the bound and below 0 where more is claimed (mirrored where
    /// less is), outside the bounds of an equivalence.
    pub(super) fn contrary(self, low: f64, high: f64) -> bool {
        match self {
            Self::Above(c, _) => high < c.min(0.0),
            Self::Below(c, _) => low > c.max(0.0),
            Self::In(a, b) => high < a || low > b,
        }
    }

    /// How far a value is from the nearest bound.
    pub(super) fn distance(self, value: f64) -> f64 {
        match self {
            Self::Above(c, _) | Self::Below(c, _) => (value - c).abs(),
            Self::In(a, b) => (value - a).abs().min((value - b).abs()),
        }
    }

    /// The smallest effect of interest where a claim names none: the bound's distance from 0, half an equivalence's width.
    pub(super) fn interest(self) -> Option<f64> {
        let x = match self {
            Self::Above(c, _) | Self::Below(c, _) => c.abs(),
            Self::In(a, b) => 0.5 * (b - a),
        };
        (x > 0.0).then_some(x)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |equal: bool| if equal { "=" } else { "" };
        match self {
            Self::Above(c, equal) => write!(f, ">{} {c}", or(*equal)),
            Self::Below(c, equal) => write!(f, "<{} {c}", or(*equal)),
            Self::In(a, b) => write!(f, "in [{a}, {b}]"),
        }
    }
}

impl TryFrom<String> for Condition {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(|e| e.to_string())
    }
}

impl From<Condition> for String {
    fn from(condition: Condition) -> String {
        condition.to_string()
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::Within(x) => write!(f, "within {x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_shown() {
        for text in ["> 0.05", ">= -1", "< 0", "<= 1.5", "in [-0.02, 0.02]"] {
            let c = Condition::parse(text).unwrap();
            assert_eq!(c.to_string(), text);
            assert_eq!(serde_json::from_str::<Condition>(&serde_json::to_string(&c).unwrap()).unwrap(), c);
        }
        assert_eq!(Condition::parse(" >1e-3 ").unwrap(), Condition::Above(0.001, false));
        for text in ["", "0.05", "> x", "> inf", "= 3", "in [1, 0]", "in [1]", "in 1, 2", ">", "> 0.05 or so"] {
            assert_eq!(Condition::parse(text).unwrap_err().exit_code(), 2, "{text}");
        }
    }

    #[test]
    fn whole_intervals_decide() {
        let c = Condition::Above(0.05, false);
        assert!(c.holds(0.051, 0.2) && !c.holds(0.05, 0.2) && Condition::Above(0.05, true).holds(0.05, 0.2));
        // Below the bound is not yet against the sign.
        assert!(!c.contrary(0.0, 0.04) && c.contrary(-0.2, -0.01));
        assert!(
            Condition::Above(-0.1, false).contrary(-0.3, -0.2) && !Condition::Above(-0.1, false).contrary(-0.3, -0.05)
        );
        assert!(Condition::Below(0.5, false).contrary(0.6, 0.7) && !Condition::Below(-0.5, false).contrary(-0.4, -0.1));
        let e = Condition::In(-0.1, 0.1);
        assert!(e.holds(-0.1, 0.05) && !e.holds(-0.11, 0.05) && e.contrary(0.11, 0.2) && !e.contrary(0.05, 0.2));
        assert_eq!(
            (c.interest(), Condition::Above(0.0, false).interest(), e.interest()),
            (Some(0.05), None, Some(0.1))
        );
    }
}
