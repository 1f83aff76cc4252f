//! Writing safetensors, whole or in shards, as transformers does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use postgrad_base::{Context, Error, Result};
use postgrad_tensor::Tensor;
use serde_json::{Map, Value, json};

use super::{AnyTensor, Dtype};

/// What goes into one place of a file.
enum Data<'a> {
    Float(&'a [f32], Dtype),
    Int(&'a [i64]),
}

impl Data<'_> {
    fn bytes(&self) -> usize {
        match self {
            Data::Float(values, dtype) => values.len() * dtype.size(),
            Data::Int(values) => values.len() * 8,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Data::Float(_, Dtype::F32) => "F32",
            Data::Float(_, Dtype::Bf16) => "BF16",
            Data::Float(_, Dtype::F16) => "F16",
            Data::Int(_) => "I64",
        }
    }

    /// Writes little-endian bytes, rounding to nearest even where the storage is narrower.
    fn write(&self, name: &str, out: &mut impl Write) -> Result<()> {
        const CHUNK: usize = 1 << 13;
        let mut bytes = Vec::with_capacity(CHUNK * 8);
        let mut emit = |bytes: &mut Vec<u8>| {
            let done = out.write_all(bytes).context(|| format!("cannot write `{name}`"));
            bytes.clear();
            done
        };
        match self {
            Data::Int(values) => {
                for chunk in values.chunks(CHUNK) {
                    bytes.extend(chunk.iter().flat_map(|x| x.to_le_bytes()));
                    emit(&mut bytes)?;
                }
            }
            Data::Float(values, dtype) => {
                let mut halves = vec![f16::ZERO; CHUNK];
                for chunk in values.chunks(CHUNK) {
                    if let Some(x) = chunk.iter().find(|x| x.is_finite() && x.abs() >= too_large(*dtype)) {
                        return Err(Error::work(format!("`{name}` holds {x}, too large for {}", dtype.torch_name()))
                            .help("save as float32 or bfloat16"));
                    }
                    match dtype {
                        Dtype::F32 => bytes.extend(chunk.iter().flat_map(|x| x.to_le_bytes())),
                        Dtype::Bf16 => bytes.extend(chunk.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes())),
                        Dtype::F16 => {
                            let halves = &mut halves[..chunk.len()];
                            halves.convert_from_f32_slice(chunk);
                            bytes.extend(halves.iter().flat_map(|y| y.to_le_bytes()));
                        }
                    }
                    emit(&mut bytes)?;
                }
            }
        }
        Ok(())
    }
}

/// The least magnitude that rounds to infinity.
fn too_large(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F32 => f32::INFINITY,
        Dtype::Bf16 => f32::from_bits(0x7f7f_8000),
        Dtype::F16 => 65_520.0,
    }
}

/// Writes one file atomically: header length, header padded to eight bytes, data in the order given.
fn write_file(path: &Path, entries: &[(&str, &[usize], Data)], metadata: Map<String, Value>) -> Result<()> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), Value::Object(metadata));
    }
    let mut at = 0;
    for (name, shape, data) in entries {
        let end = at + data.bytes();
        let entry = json!({"dtype": data.name(), "shape": shape, "data_offsets": [at, end]});
        if header.insert(name.to_string(), entry).is_some() {
            return Err(Error::work(format!("two tensors are named `{name}`")).at(path.display()));
        }
        at = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    postgrad_base::fs::write_atomic(path, |out| {
        out.write_all(&(text.len() as u64).to_le_bytes())
            .and_then(|()| out.write_all(&text))
            .context(|| format!("cannot write {}", path.display()))?;
        entries.iter().try_for_each(|(name, _, data)| data.write(name, out)).map_err(|e| e.at(path.display()))
    })
}

/// Writes `model.safetensors`, or shards of at most `max_shard_bytes` (a larger tensor has a shard alone) with their index,
/// in the order given. Each file is complete or absent and weights of an earlier save are removed at the end; for a folder
/// that is complete or absent call it inside [`postgrad_base::fs::write_dir_atomic`].
///
/// # Errors
/// A finite value that the storage cannot hold, two tensors of one name, a disk that is full.
pub fn write_weights<S: AsRef<str>>(
    dir: &Path,
    tensors: &[(S, Tensor)],
    dtype: Dtype,
    max_shard_bytes: usize,
) -> Result<()> {
    let mut shards: Vec<Vec<(&str, &[usize], Data)>> = vec![vec![]];
    let mut filled = 0;
    for (name, tensor) in tensors {
        let data = Data::Float(tensor.data(), dtype);
        if filled > 0 && filled + data.bytes() > max_shard_bytes {
            shards.push(vec![]);
            filled = 0;
        }
        filled += data.bytes();
        shards.last_mut().expect("one shard at least").push((name.as_ref(), tensor.dims(), data));
    }
    let pt = || Map::from_iter([("format".to_string(), json!("pt"))]);
    let mut kept = BTreeSet::new();
    if let [one] = &shards[..] {
        write_file(&dir.join("model.safetensors"), one, pt())?;
        kept.insert("model.safetensors".to_string());
    } else {
        let mut map = Map::new();
        for (i, shard) in shards.iter().enumerate() {
            let file = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
            write_file(&dir.join(&file), shard, pt())?;
            for (name, _, _) in shard {
                if map.insert(name.to_string(), json!(file)).is_some() {
                    return Err(Error::work(format!("two tensors are named `{name}`")).at(dir.display()));
                }
            }
            kept.insert(file);
        }
        let total: usize = tensors.iter().map(|(_, t)| t.len() * dtype.size()).sum();
        let index = json!({"metadata": {"total_size": total}, "weight_map": map});
        let text = serde_json::to_string_pretty(&index).context(|| "cannot write the index".into())?;
        postgrad_base::fs::write(&dir.join("model.safetensors.index.json"), text.as_bytes())?;
        kept.insert("model.safetensors.index.json".to_string());
    }
    remove_earlier(dir, &kept)
}

/// Weights of an earlier save would be read in place of, or beside, these.
fn remove_earlier(dir: &Path, kept: &BTreeSet<String>) -> Result<()> {
    let ours = |name: &str| {
        let shard = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
        let numbered = shard
            .and_then(|s| s.split_once("-of-"))
            .is_some_and(|(a, b)| [a, b].iter().all(|n| n.len() == 5 && n.bytes().all(|c| c.is_ascii_digit())));
        numbered || name == "model.safetensors" || name == "model.safetensors.index.json"
    };
    for entry in fs::read_dir(dir).context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry.context(|| format!("cannot read {}", dir.display()))?;
        if entry.file_name().to_str().is_some_and(|name| ours(name) && !kept.contains(name)) {
            fs::remove_file(entry.path()).context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Writes one file atomically: floats as float32, whole numbers as int64, and texts beside them.
pub fn write_safetensors(
    path: &Path,
    tensors: &BTreeMap<String, AnyTensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut entries: Vec<(&str, &[usize], Data)> = vec![];
    for (name, tensor) in tensors {
        let data = match tensor {
            AnyTensor::Float(t) => Data::Float(t.data(), Dtype::F32),
            AnyTensor::Int { values, shape } => {
                if values.len() != shape.iter().product::<usize>() {
                    return Err(Error::work(format!("`{name}`: {} values do not fill {shape:?}", values.len())));
                }
                Data::Int(values)
            }
        };
        entries.push((name, tensor.shape(), data));
    }
    // Eight-byte values first, so that every tensor is aligned to its size.
    entries.sort_by_key(|(_, _, data)| matches!(data, Data::Float(..)));
    write_file(path, &entries, metadata.iter().map(|(key, text)| (key.clone(), json!(text))).collect())
}
