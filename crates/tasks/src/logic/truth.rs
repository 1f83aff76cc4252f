//! Truth tables, 64 rows at a time.
//!
//! Atoms and equations of a first-order formula count as letters and quantifiers are passed over, which is the reading
//! the equivalence score wants; for propositional formulas this is the usual truth table.

use std::collections::BTreeMap;

use super::formula::Formula;
use postgrad_base::{Error, Result};

/// Most letters a table is made for: 2^20 rows.
pub const MAX_LETTERS: usize = 20;

/// Which rows make a formula true. Row `r` gives letter `i` the value of bit `i` of `r`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    letters: usize,
    words: Vec<u64>,
}

impl Rows {
    fn count(letters: usize) -> usize {
        1usize << letters
    }

    fn filled(letters: usize, word: u64) -> Self {
        Self { letters, words: vec![word; Self::count(letters).div_ceil(64)] }
    }

    /// The column of one letter.
    pub fn letter(i: usize, letters: usize) -> Self {
        const IN_WORD: [u64; 6] = [
            0xAAAA_AAAA_AAAA_AAAA,
            0xCCCC_CCCC_CCCC_CCCC,
            0xF0F0_F0F0_F0F0_F0F0,
            0xFF00_FF00_FF00_FF00,
            0xFFFF_0000_FFFF_0000,
            0xFFFF_FFFF_0000_0000,
        ];
        let mut rows = Self::filled(letters, 0);
        for (w, word) in rows.words.iter_mut().enumerate() {
            *word = if i < 6 { IN_WORD[i] } else { 0u64.wrapping_sub((w >> (i - 6) & 1) as u64) };
        }
        rows
    }

    fn mask(&self) -> u64 {
        if self.letters >= 6 { u64::MAX } else { (1u64 << Self::count(self.letters)) - 1 }
    }

    pub fn len(&self) -> usize {
        Self::count(self.letters)
    }

    pub fn is_empty(&self) -> bool {
        false
    }

    pub fn get(&self, row: usize) -> bool {
        self.words[row / 64] >> (row % 64) & 1 == 1
    }

    pub fn true_rows(&self) -> usize {
        let mask = self.mask();
        self.words.iter().map(|w| (w & mask).count_ones() as usize).sum()
    }

    /// Rows where both say the same.
    pub fn agreement(&self, other: &Rows) -> usize {
        let mask = self.mask();
        self.words.iter().zip(&other.words).map(|(a, b)| (!(a ^ b) & mask).count_ones() as usize).sum()
    }

    fn zip(mut self, other: &Rows, f: impl Fn(u64, u64) -> u64) -> Self {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a = f(*a, *b));
        self
    }
}

/// Evaluates a formula on all rows; `column` says which letter each atom is.
pub(super) fn evaluate(f: &Formula, column: &BTreeMap<&Formula, usize>, letters: usize) -> Rows {
    use super::formula::Op::*;
    match f {
        Formula::True => Rows::filled(letters, u64::MAX),
        Formula::False => Rows::filled(letters, 0),
        Formula::Atom(_) | Formula::Equal(..) => Rows::letter(column[f], letters),
        Formula::Quant(_, _, a) => evaluate(a, column, letters),
        Formula::Not(a) => {
            let mut rows = evaluate(a, column, letters);
            rows.words.iter_mut().for_each(|w| *w = !*w);
            rows
        }
        Formula::Bin(op, a, b) => {
            let (a, b) = (evaluate(a, column, letters), evaluate(b, column, letters));
            a.zip(&b, |a, b| match op {
                And => a & b,
                Or => a | b,
                Xor => a ^ b,
                Implies => !a | b,
                Iff => !(a ^ b),
            })
        }
    }
}

/// A truth table.
#[derive(Clone, Debug)]
pub struct Table {
    /// The letters in order of first occurrence; letter `i` is bit `i` of the row's number.
    pub letters: Vec<String>,
    pub rows: Rows,
}

impl Table {
    pub fn is_tautology(&self) -> bool {
        self.rows.true_rows() == self.rows.len()
    }

    pub fn is_satisfiable(&self) -> bool {
        self.rows.true_rows() > 0
    }
}

/// The truth table of a propositional formula.
pub fn table(f: &Formula) -> Result<Table> {
    if !f.is_propositional() {
        return Err(
            Error::work("a truth table needs a propositional formula").help("use logic::models for quantifiers")
        );
    }
    let atoms = f.atoms();
    if atoms.len() > MAX_LETTERS {
        return Err(Error::work(format!(
            "{} letters make too long a truth table (at most {MAX_LETTERS})",
            atoms.len()
        ))
        .help("use logic::sat"));
    }
    let column = atoms.iter().enumerate().map(|(i, a)| (*a, i)).collect();
    Ok(Table { letters: atoms.iter().map(|a| a.to_string()).collect(), rows: evaluate(f, &column, atoms.len()) })
}

/// The value of a propositional formula where `value` gives the letters.
pub fn eval(f: &Formula, value: &impl Fn(&str) -> bool) -> bool {
    match f {
        Formula::True => true,
        Formula::False => false,
        Formula::Atom(a) => value(&a.pred),
        Formula::Equal(a, b) => a == b,
        Formula::Quant(_, _, a) => eval(a, value),
        Formula::Not(a) => !eval(a, value),
        Formula::Bin(op, a, b) => op.apply(eval(a, value), eval(b, value)),
    }
}
