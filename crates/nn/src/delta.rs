//! Sparse deltas: the entries in which a tuned model differs from its base, in one small file.
//!
//! For every changed tensor the file (safetensors) holds `NAME#entries` (row-major places, ascending), `NAME#old` and
//! `NAME#new`. Both values are kept, not their difference: `base + (new - base)` is not always `new` in floating point, and
//! with both, adding and removing are exact and a delta is refused where the model is not the one it belongs to. An entry
//! costs 16 bytes. Left out on purpose: tensors of another shape or name than the base's.

use std::collections::BTreeMap;
use std::path::Path;

use postgrad_base::{Error, Result};
use postgrad_tensor::{Buf, Tensor};

use crate::checkpoint::{AnyTensor, read_safetensors, write_safetensors};
use crate::weights::{Weight, Weights};

/// The changes of one tensor.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    entries: Vec<u32>,
    old: Vec<f32>,
    new: Vec<f32>,
}

/// Changed entries by tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    changes: BTreeMap<String, Change>,
}

impl Delta {
    /// What differs, to the bit.
    ///
    /// # Errors
    /// Other names or shapes.
    pub fn between(base: &Weights, tuned: &Weights) -> Result<Self> {
        let mut changes = BTreeMap::new();
        for (_, name, weight) in tuned.iter() {
            let id = base.find(name).ok_or_else(|| Error::usage("the base has no such tensor").at(name))?;
            let (old, new) = (base.get(id).tensor(), weight.tensor());
            if old.shape() != new.shape() {
                let what = format!("the base has shape {:?}, the tuned model {:?}", old.shape(), new.shape());
                return Err(Error::usage(what).at(name));
            }
            let differs = |i: &u32| old.data()[*i as usize].to_bits() != new.data()[*i as usize].to_bits();
            let entries: Vec<u32> = (0..old.len() as u32).filter(differs).collect();
            if !entries.is_empty() {
                let at = |t: &Tensor| entries.iter().map(|i| t.data()[*i as usize]).collect();
                let (old, new) = (at(&old), at(&new));
                changes.insert(name.to_string(), Change { entries, old, new });
            }
        }
        Ok(Self { changes })
    }

    /// Changed tensors with the number of their changed entries.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, usize)> {
        self.changes.iter().map(|(name, c)| (name.as_str(), c.entries.len()))
    }

    /// Changed places of a tensor, ascending.
    pub fn entries(&self, name: &str) -> &[u32] {
        self.changes.get(name).map_or(&[], |c| &c.entries)
    }

    /// Changed entries in all.
    pub fn len(&self) -> usize {
        self.changes.values().map(|c| c.entries.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Turns the base into the tuned model.
    ///
    /// # Errors
    /// Weights that are not the base's; nothing is changed then.
    pub fn add(&self, weights: &mut Weights) -> Result<()> {
        self.put(weights, |c| (&c.old, &c.new))
    }

    /// Turns the tuned model into the base, bit for bit.
    ///
    /// # Errors
    /// Weights that are not the tuned model's; nothing is changed then.
    pub fn remove(&self, weights: &mut Weights) -> Result<()> {
        self.put(weights, |c| (&c.new, &c.old))
    }

    fn put(&self, weights: &mut Weights, way: impl Fn(&Change) -> (&Vec<f32>, &Vec<f32>)) -> Result<()> {
        let mut ready = Vec::new();
        for (name, change) in &self.changes {
            let id = weights.find(name).ok_or_else(|| Error::usage("the model has no such tensor").at(name))?;
            let tensor = weights.get(id).tensor();
            if change.entries.last().is_some_and(|e| *e as usize >= tensor.len()) {
                return Err(Error::usage("the delta has entries beyond the tensor's").at(name));
            }
            let (from, to) = way(change);
            let mut data = Buf::copy(tensor.data());
            for ((i, from), to) in change.entries.iter().zip(from).zip(to) {
                let w = &mut data[*i as usize];
                if w.to_bits() != from.to_bits() {
                    let what = format!("entry {i} is {w}, and the delta was made where it is {from}");
                    return Err(Error::usage(what).at(name).help("give the model that the delta belongs to"));
                }
                *w = *to;
            }
            ready.push((id, data));
        }
        for (id, data) in ready {
            match weights.get(id) {
                Weight::Trained(p) => p.set(&data),
                other => {
                    let shape = other.tensor().shape();
                    weights.set(id, Weight::Frozen(Tensor::constant(data, shape)))?;
                }
            }
        }
        Ok(())
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let mut tensors = BTreeMap::new();
        for (name, c) in &self.changes {
            let shape = vec![c.entries.len()];
            let entries = AnyTensor::Int { values: c.entries.iter().map(|e| *e as i64).collect(), shape };
            let floats = |values: &[f32]| AnyTensor::Float(Tensor::from_slice(values, &[values.len()]));
            tensors.insert(format!("{name}#entries"), entries);
            tensors.insert(format!("{name}#old"), floats(&c.old));
            tensors.insert(format!("{name}#new"), floats(&c.new));
        }
        let about = BTreeMap::from([("format".to_string(), "postgrad-delta-1".to_string())]);
        write_safetensors(path, &tensors, &about)
    }

    /// # Errors
    /// A file that cannot be read, or that holds something else.
    pub fn load(path: &Path) -> Result<Self> {
        let all = read_safetensors(path)?;
        let wrong = |name: &str| Error::usage("not a sparse delta").at(name).at(path.display());
        let mut changes = BTreeMap::new();
        for key in all.keys() {
            let Some((name, part)) = key.rsplit_once('#') else { return Err(wrong(key)) };
            if part != "entries" {
                continue;
            }
            let of = |part: &str| all.get(&format!("{name}#{part}"));
            let floats = |part: &str| Some(of(part)?.float()?.data().to_vec());
            let entries = of("entries").and_then(AnyTensor::ints).ok_or_else(|| wrong(key))?;
            let entries: Vec<u32> = entries.iter().filter_map(|e| u32::try_from(*e).ok()).collect();
            let (Some(old), Some(new)) = (floats("old"), floats("new")) else { return Err(wrong(key)) };
            if old.len() != entries.len() || new.len() != old.len() || !entries.windows(2).all(|w| w[0] < w[1]) {
                return Err(wrong(key));
            }
            changes.insert(name.to_string(), Change { entries, old, new });
        }
        if all.len() != 3 * changes.len() {
            return Err(Error::usage("not a sparse delta: it holds other tensors too").at(path.display()));
        }
        Ok(Self { changes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(a: &[f32], b: &[f32]) -> Weights {
        let mut w = Weights::default();
        w.add("a", Tensor::new(a.to_vec(), &[2, 2]));
        w.add("b", Tensor::new(b.to_vec(), &[2]));
        w
    }

    fn bits(w: &Weights) -> Vec<u32> {
        w.iter().flat_map(|(_, _, w)| w.tensor().data().iter().map(|x| x.to_bits()).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn added_and_removed_is_the_base_bit_for_bit() {
        // 1e8 + (0.1 - 1e8) is not 0.1 in f32, and -0.0 equals 0.0 but is not the same bits.
        let base = weights(&[1e8, 2.0, 0.0, 4.0], &[5.0, 6.0]);
        let tuned = weights(&[0.1, 2.0, -0.0, 4.5], &[5.0, 6.0]);
        let made = Delta::between(&base, &tuned).unwrap();
        assert_eq!((made.len(), made.entries("a"), made.entries("b").len()), (3, &[0, 2, 3][..], 0));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("delta.safetensors");
        made.save(&path).unwrap();
        let delta = Delta::load(&path).unwrap();
        assert_eq!(delta.tensors().collect::<Vec<_>>(), [("a", 3)]);
        let mut w = base.clone();
        delta.add(&mut w).unwrap();
        assert!(bits(&w) == bits(&tuned));
        let e = delta.add(&mut w).unwrap_err();
        assert!(e.to_string().contains("entry 0 is 0.1"), "{e}");
        assert!(bits(&w) == bits(&tuned), "a refused delta changes nothing");
        delta.remove(&mut w).unwrap();
        assert!(bits(&w) == bits(&base));
    }

    #[test]
    fn other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let some = BTreeMap::from([("w".to_string(), AnyTensor::Float(Tensor::zeros(&[2])))]);
        write_safetensors(&path, &some, &BTreeMap::new()).unwrap();
        assert_eq!(Delta::load(&path).unwrap_err().exit_code(), 2);
    }
}
