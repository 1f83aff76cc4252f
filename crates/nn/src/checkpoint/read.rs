//! Reading safetensors: the header is checked whole before a tensor is touched, data is mapped and copied once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt;
use memmap2::{Mmap, UncheckedAdvice};
use postgrad_base::{Context, Error, Result};
use postgrad_tensor::{Buf, Shape, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as Stored, TensorInfo};

use super::{AnyTensor, Dtype};

/// The dimensions a [`Tensor`] can have.
const MOST_DIMS: usize = 6;

struct File {
    path: PathBuf,
    map: Mmap,
    /// Where the data begins.
    start: usize,
    tensors: BTreeMap<String, TensorInfo>,
}

impl File {
    fn open(path: &Path) -> Result<Self> {
        let damaged =
            |e: Error| e.at(path.display()).help("the file is damaged or incomplete; copy or download it again");
        let file = fs::File::open(path).context(|| format!("cannot open {}", path.display()))?;
        if !file.metadata().is_ok_and(|m| m.is_file()) {
            return Err(Error::work("not a file").at(path.display()));
        }
        // SAFETY: the map is only read. A file that shrinks meanwhile ends the process, as with every mapped file.
        let map = unsafe { Mmap::map(&file) }.context(|| format!("cannot map {}", path.display()))?;
        let (length, metadata) =
            SafeTensors::read_metadata(&map).context(|| "not a whole safetensors file".into()).map_err(damaged)?;
        let start = 8 + length;
        let tensors: BTreeMap<String, TensorInfo> =
            metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        for (name, info) in &tensors {
            if info.shape.len() > MOST_DIMS {
                return Err(Error::work(format!("`{name}` has {} dimensions", info.shape.len())).at(path.display()));
            }
            let end = info.data_offsets.1.checked_add(start);
            if end.is_none_or(|end| end > map.len()) {
                return Err(damaged(Error::work(format!("`{name}` lies beyond the end of the file"))));
            }
        }
        Ok(Self { path: path.into(), map, start, tensors })
    }

    fn bytes(&self, info: &TensorInfo) -> &[u8] {
        &self.map[self.start + info.data_offsets.0..self.start + info.data_offsets.1]
    }

    fn any(&self, name: &str, info: &TensorInfo) -> Result<AnyTensor> {
        let bytes = self.bytes(info);
        let ints = |values: Vec<i64>| Ok(AnyTensor::Int { values, shape: info.shape.clone() });
        fn map<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> i64) -> Vec<i64> {
            bytes.as_chunks().0.iter().map(|b| f(*b)).collect()
        }
        match info.dtype {
            Stored::F32 | Stored::BF16 | Stored::F16 => {
                let mut buf = Buf::scratch(info.shape.iter().product());
                fill(&mut buf, bytes, info.dtype);
                self.forget(info);
                Ok(AnyTensor::Float(Tensor::constant(buf, Shape::new(&info.shape))))
            }
            Stored::I64 => ints(map(bytes, i64::from_le_bytes)),
            Stored::I32 => ints(map(bytes, |b| i32::from_le_bytes(b).into())),
            Stored::U32 => ints(map(bytes, |b| u32::from_le_bytes(b).into())),
            Stored::I16 => ints(map(bytes, |b| i16::from_le_bytes(b).into())),
            Stored::U16 => ints(map(bytes, |b| u16::from_le_bytes(b).into())),
            Stored::U8 | Stored::BOOL => ints(map(bytes, |[b]| b.into())),
            Stored::I8 => ints(map(bytes, |b| i8::from_le_bytes(b).into())),
            other => Err(Error::work(format!("`{name}` is stored as {other}"))
                .at(self.path.display())
                .help("supported: F32, BF16, F16 weights; quantised models are not read")),
        }
    }

    /// Pages that were copied need not count as ours; they come back from the file if they are read again.
    fn forget(&self, info: &TensorInfo) {
        let length = info.data_offsets.1 - info.data_offsets.0;
        // SAFETY: the map is read-only and backed by the file, so dropped pages hold the same bytes when they come back.
        let _ = unsafe {
            self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, self.start + info.data_offsets.0, length)
        };
    }
}

/// Widens stored floats. `bytes` holds as many as `out`.
fn fill(out: &mut [f32], bytes: &[u8], dtype: Stored) {
    match dtype {
        Stored::BF16 => {
            for (y, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *y = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            }
        }
        Stored::F16 => {
            let mut halves = [f16::ZERO; 1024];
            for (out, bytes) in out.chunks_mut(1024).zip(bytes.chunks(2048)) {
                for (h, b) in halves.iter_mut().zip(bytes.as_chunks().0) {
                    *h = f16::from_le_bytes(*b);
                }
                halves[..out.len()].convert_to_f32_slice(out);
            }
        }
        _ => {
            for (y, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *y = f32::from_le_bytes(*b);
            }
        }
    }
}

/// The tensors of a folder or file, by name, loaded one at a time.
pub struct Shards {
    files: Vec<File>,
    /// Name to file.
    place: BTreeMap<String, usize>,
}

impl Shards {
    /// Opens `model.safetensors`, else the shards of `model.safetensors.index.json`.
    pub fn open(dir: &Path) -> Result<Self> {
        let whole = dir.join("model.safetensors");
        if whole.is_file() {
            return Self::open_file(&whole);
        }
        let index = dir.join("model.safetensors.index.json");
        if index.is_file() {
            return Self::open_index(dir, &index);
        }
        let error = Error::usage("there are no weights (model.safetensors)").at(dir.display());
        let has = |names: &[&str]| names.iter().any(|name| dir.join(name).exists());
        Err(if has(&["pytorch_model.bin", "pytorch_model.bin.index.json"]) {
            Error::usage("the weights are a pickle (pytorch_model.bin), which can run code when it is read")
                .at(dir.display())
                .help("convert them once with transformers: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW)")
        } else if has(&["adapter_config.json"]) {
            error.help("this folder holds an adapter; give its base model as the model")
        } else {
            error.help("give the folder of a Hugging Face model: config.json, model.safetensors, tokenizer.json")
        })
    }

    /// Opens one safetensors file.
    pub fn open_file(path: &Path) -> Result<Self> {
        Self::collect(vec![File::open(path)?])
    }

    fn open_index(dir: &Path, index: &Path) -> Result<Self> {
        let text = fs::read_to_string(index).context(|| format!("cannot read {}", index.display()))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).context(|| "not JSON".into()).map_err(|e| e.at(index.display()))?;
        let map = value.get("weight_map").and_then(|m| m.as_object());
        let map = map.ok_or_else(|| Error::work("there is no `weight_map`").at(index.display()))?;
        let mut names = BTreeSet::new();
        for (tensor, shard) in map {
            let plain = shard.as_str().filter(|s| is_plain_name(s));
            let plain = plain.ok_or_else(|| {
                Error::work(format!("`{tensor}` is said to be in {shard}, which is not a file name of this folder"))
                    .at(index.display())
            })?;
            names.insert(plain);
        }
        let missing: Vec<&str> = names.iter().copied().filter(|name| !dir.join(name).is_file()).collect();
        if let Some(first) = missing.first() {
            return Err(Error::work(format!("{} of {} shards are missing: {first}", missing.len(), names.len()))
                .at(dir.display())
                .help("the download is incomplete; fetch the missing files"));
        }
        let files: Vec<File> = names.iter().map(|name| File::open(&dir.join(name))).collect::<Result<_>>()?;
        let shards = Self::collect(files)?;
        for (tensor, shard) in map {
            let found = shards.place.get(tensor).map(|&i| &shards.files[i].path);
            if found.and_then(|p| p.file_name()).is_none_or(|name| shard.as_str().is_none_or(|s| name != s)) {
                return Err(Error::work(format!("`{tensor}` is not in {shard}, where the index places it"))
                    .at(index.display())
                    .help("the index and the shards do not belong together"));
            }
        }
        Ok(shards)
    }

    fn collect(files: Vec<File>) -> Result<Self> {
        let mut place = BTreeMap::new();
        for (i, file) in files.iter().enumerate() {
            for name in file.tensors.keys() {
                if place.insert(name.clone(), i).is_some() {
                    return Err(Error::work(format!("`{name}` is in two shards")).at(file.path.display()));
                }
            }
        }
        Ok(Self { files, place })
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.place.keys().map(String::as_str)
    }

    fn info(&self, name: &str) -> Option<(&File, &TensorInfo)> {
        let file = &self.files[*self.place.get(name)?];
        Some((file, file.tensors.get(name)?))
    }

    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.info(name).map(|(_, info)| &info.shape[..])
    }

    /// How the weight is stored; none if it is absent or not a float.
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        match self.info(name)?.1.dtype {
            Stored::F32 => Some(Dtype::F32),
            Stored::BF16 => Some(Dtype::Bf16),
            Stored::F16 => Some(Dtype::F16),
            _ => None,
        }
    }

    /// One tensor of floats, as float32.
    pub fn load(&self, name: &str) -> Result<Tensor> {
        match self.load_any(name)? {
            AnyTensor::Float(tensor) => Ok(tensor),
            AnyTensor::Int { .. } => Err(Error::work(format!("`{name}` holds whole numbers, not weights"))),
        }
    }

    pub fn load_any(&self, name: &str) -> Result<AnyTensor> {
        let (file, info) = self.info(name).ok_or_else(|| Error::work(format!("there is no tensor `{name}`")))?;
        file.any(name, info)
    }
}

/// A single file name, ending in `.safetensors`: an index cannot reach out of its folder.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let single = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name);
    single && name.ends_with(".safetensors") && !name.contains(['\\', '\0'])
}

/// Every tensor of one file.
pub fn read_safetensors(path: &Path) -> Result<BTreeMap<String, AnyTensor>> {
    let shards = Shards::open_file(path)?;
    shards.names().map(|name| shards.load_any(name).map(|tensor| (name.to_string(), tensor))).collect()
}
