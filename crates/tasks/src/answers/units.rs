//! Units of measure after a number: a small table with exact scales, so that 5 hours equals 300 minutes and 5 cm is not 5 m.
//!
//! Words not in the table (apples, students) are kept as a name and never decide.

use num_bigint::BigInt;

use super::expr::Q;

/// What follows a number.
#[derive(Clone, Debug, PartialEq)]
pub enum Unit {
    /// Length, time, mass, money, angle: the powers, and the size in the base unit of each.
    Known {
        powers: [i32; 5],
        scale: Q,
        name: String,
    },
    Other(String),
}

impl Unit {
    pub fn name(&self) -> &str {
        match self {
            Unit::Known { name, .. } | Unit::Other(name) => name,
        }
    }
}

/// Letters that are units after a number and a space.
pub fn is_letter(letter: &str) -> bool {
    matches!(letter, "m" | "g" | "s" | "h" | "L" | "l" | "N" | "J" | "W" | "V" | "A" | "K" | "C" | "F")
}

pub fn is_unit(word: &str) -> bool {
    word.len() > 1
        && (base(word).is_some()
            || matches!(word, "mod" | "mph" | "kmh" | "rpm" | "Hz" | "kW" | "Pa" | "mol" | "ohm" | "psi"))
}

/// Dimension (index into the powers), its power, and scale as a ratio.
fn base(word: &str) -> Option<(usize, i32, i64, i64)> {
    let lower = word.to_ascii_lowercase();
    Some(match lower.as_str() {
        "mm" | "millimeter" | "millimeters" | "millimetre" | "millimetres" => (0, 1, 1, 1000),
        "cm" | "centimeter" | "centimeters" | "centimetre" | "centimetres" => (0, 1, 1, 100),
        "dm" | "decimeter" | "decimeters" => (0, 1, 1, 10),
        "m" | "meter" | "meters" | "metre" | "metres" => (0, 1, 1, 1),
        "km" | "kilometer" | "kilometers" | "kilometre" | "kilometres" => (0, 1, 1000, 1),
        "in" | "inch" | "inches" => (0, 1, 254, 10000),
        "ft" | "foot" | "feet" => (0, 1, 3048, 10000),
        "yd" | "yard" | "yards" => (0, 1, 9144, 10000),
        "mi" | "mile" | "miles" => (0, 1, 1609344, 1000),
        "ml" | "milliliter" | "milliliters" | "millilitre" | "millilitres" => (0, 3, 1, 1_000_000),
        "l" | "liter" | "liters" | "litre" | "litres" => (0, 3, 1, 1000),
        "ms" | "millisecond" | "milliseconds" => (1, 1, 1, 1000),
        "s" | "sec" | "secs" | "second" | "seconds" => (1, 1, 1, 1),
        "min" | "mins" | "minute" | "minutes" => (1, 1, 60, 1),
        "h" | "hr" | "hrs" | "hour" | "hours" => (1, 1, 3600, 1),
        "day" | "days" => (1, 1, 86400, 1),
        "week" | "weeks" => (1, 1, 604800, 1),
        "mg" | "milligram" | "milligrams" => (2, 1, 1, 1000),
        "g" | "gram" | "grams" => (2, 1, 1, 1),
        "kg" | "kgs" | "kilogram" | "kilograms" => (2, 1, 1000, 1),
        "ton" | "tonne" | "tons" | "tonnes" => (2, 1, 1_000_000, 1),
        "lb" | "lbs" | "pound" | "pounds" => (2, 1, 45359237, 100000),
        "oz" | "ounce" | "ounces" => (2, 1, 28349523125, 1_000_000_000),
        "cent" | "cents" => (3, 1, 1, 100),
        "dollar" | "dollars" | "usd" | "bucks" => (3, 1, 1, 1),
        "deg" | "degree" | "degrees" => (4, 1, 1, 1),
        _ => return None,
    })
}

/// One piece of a unit as the parser found it.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Word(String),
    Per,
    Power(i32),
}

/// The unit spelled by words, slashes and powers; none for an empty list.
pub fn unit(pieces: &[Piece]) -> Option<Unit> {
    if pieces.is_empty() {
        return None;
    }
    let mut powers = [0i32; 5];
    let mut scale = Q::from_integer(BigInt::from(1));
    let mut known = true;
    let mut name = String::new();
    let mut sign = 1;
    let mut next_power = 1; // "square", "cubic"
    let mut last: Option<(usize, i32, Q)> = None;
    for piece in pieces {
        match piece {
            Piece::Per => {
                sign = -1;
                last = None;
                name.push('/');
            }
            Piece::Power(p) => {
                name.push_str(&format!("^{p}"));
                match last.take() {
                    Some((dim, power, size)) if (1..=3).contains(p) => {
                        powers[dim] += power * (p - 1);
                        for _ in 1..*p {
                            scale *= &size;
                        }
                    }
                    _ => known = false,
                }
            }
            Piece::Word(word) => {
                match word.to_ascii_lowercase().as_str() {
                    "square" | "sq" => {
                        next_power = 2;
                        continue;
                    }
                    "cubic" | "cu" => {
                        next_power = 3;
                        continue;
                    }
                    "per" => {
                        sign = -1;
                        last = None;
                        name.push('/');
                        continue;
                    }
                    "a" | "an" | "the" | "of" => continue,
                    "mph" => {
                        powers[0] += 1;
                        powers[1] -= 1;
                        scale *= Q::new(BigInt::from(1609344), BigInt::from(3_600_000));
                        name.push_str("mi/h");
                        continue;
                    }
                    _ => {}
                }
                if !name.is_empty() && !name.ends_with('/') {
                    name.push(' ');
                }
                name.push_str(word);
                if next_power > 1 {
                    name.push_str(&format!("^{next_power}"));
                }
                match base(word) {
                    Some((dim, power, n, d)) if known => {
                        let mut size = Q::new(BigInt::from(n), BigInt::from(d));
                        if sign < 0 {
                            size = size.recip();
                        }
                        powers[dim] += sign * power * next_power;
                        for _ in 0..next_power {
                            scale *= &size;
                        }
                        last = Some((dim, sign * power * next_power, size));
                    }
                    _ => known = false,
                }
                next_power = 1;
            }
        }
    }
    if name.is_empty() {
        name.push_str("unit");
        known = false;
    }
    Some(if known { Unit::Known { powers, scale, name } } else { Unit::Other(name) })
}
