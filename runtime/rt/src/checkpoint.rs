//! Checkpoints: immutable generations, and a pointer file that names the best and the last.
//!
//! A save writes a new generation under a temporary name, syncs it, renames it, and only then replaces the pointer, so a process
//! killed at any moment leaves the previous state whole. Reading checks every file against the checksum its generation states.

use crate::failure::Failure;
use crate::model::Model;
use crate::transform::Fitted;
use crate::vocab::Vocab;
use arrow_array::cast::AsArray as _;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, LargeBinaryArray, LargeStringArray, RecordBatch, UInt64Array};
use memmap2::Mmap;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use recc_abi::{Column, Encoder, Program, Role};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the folder's format.
const FORMAT: u32 = 1;
const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const VOCAB: &str = "vocab.parquet";
const TRANSFORMS: &str = "transforms.json";
const PROGRESS: &str = "progress.json";
const MODEL: &str = "model.json";
const CURRENT: &str = "current.json";
const LOCK: &str = ".lock";

/// Where training stands.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) epoch: u32,
    pub(crate) step: u64,
    pub(crate) seed: u64,
    /// The watched metric's best value.
    pub(crate) best: Option<f64>,
    pub(crate) best_epoch: u32,
    /// Factor of the learning rates.
    pub(crate) scale: f64,
    /// Epochs without gain, for the rate and for the end.
    pub(crate) rate_waits: u32,
    pub(crate) stop_waits: u32,
    pub(crate) rate_best: Option<f64>,
    pub(crate) stop_best: Option<f64>,
    /// Whether training ended by itself.
    pub(crate) stopped: bool,
    /// Rows of the training data and a hash of them as they were read, which a resumed run must find again.
    pub(crate) rows: u64,
    pub(crate) data: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct ModelFile {
    format: u32,
    name: String,
    hash: String,
    resolved: String,
    parameters: Vec<Parameter>,
    files: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Parameter {
    path: String,
    shape: Vec<usize>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Current {
    format: u32,
    best: String,
    last: String,
}

/// What was learned of a column of numbers.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Transform {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mean: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deviation: Option<f64>,
    /// Share of the training rows, and the value it does not exceed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    quantiles: Vec<(f64, f32)>,
}

/// Files of one generation, by name: a folder, or bytes inside the executable.
pub struct Generation {
    place: String,
    files: BTreeMap<String, Contents>,
}

/// A file's bytes.
enum Contents {
    /// In place; only what is asked for is read.
    Mapped(Mmap),
    /// From inside the executable.
    Held(Vec<u8>),
}

impl Contents {
    fn of_file(path: &Path) -> std::io::Result<Contents> {
        let file = File::open(path)?;
        // SAFETY: files of a generation are written once, before the pointer names them, and removed whole.
        unsafe { Mmap::map(&file) }.map(Contents::Mapped)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Contents::Mapped(map) => map,
            Contents::Held(bytes) => bytes,
        }
    }
}

/// A folder of checkpoints.
pub(crate) struct Folder {
    path: PathBuf,
    /// Held while a run writes here; the system lets it go with the process.
    lock: Option<File>,
    /// Folders that were made for this run, the innermost last.
    made: Vec<PathBuf>,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.made.is_empty() && !self.holds_state() {
            // A run that fails before its first save leaves nothing; a folder that holds anything else stays.
            let _ = std::fs::remove_file(self.path.join(LOCK));
            let _ = self.made.iter().rev().try_for_each(std::fs::remove_dir);
        }
    }
}

/// Which generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The best by the watched metric.
    Best,
    /// The last saved.
    Last,
}

/// What a state is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To score: the model must be the same, how it was trained and measured need not.
    Score,
    /// To go on training: all of the spec must be the same.
    Resume,
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| Failure::internal("checkpoint", error))?;
    text.push(b'\n');
    Ok(text)
}

fn sync_folder(path: &Path) -> Result<(), Failure> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| Failure::io("sync", path, &error))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let full = |error: std::io::Error| {
        let mut failure = Failure::io("write", path, &error);
        failure
            .message
            .push_str("\nhelp: what was saved before is whole; free space, and go on with --resume, or begin again if nothing was saved");
        failure
    };
    let mut file = File::create(path).map_err(full)?;
    file.write_all(bytes).map_err(full)?;
    file.sync_all().map_err(full)
}

impl Folder {
    /// Opens or makes a folder for one run to write in.
    pub(crate) fn create(path: &Path) -> Result<Folder, Failure> {
        if path.exists() && !path.is_dir() {
            return Err(Failure::usage(format!("--out {}: is a file\nhelp: give a folder, which is made if needed", path.display())));
        }
        let mut made: Vec<PathBuf> =
            path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).map(Path::to_owned).collect();
        made.reverse();
        std::fs::create_dir_all(path).map_err(|error| Failure::io("create", path, &error))?;
        let mut folder = Folder { path: path.to_owned(), lock: None, made };
        folder.lock()?;
        Ok(folder)
    }

    fn lock(&mut self) -> Result<(), Failure> {
        let place = self.path.join(LOCK);
        let identity = |file: std::io::Result<std::fs::Metadata>| file.map(|file| (file.dev(), file.ino())).ok();
        loop {
            let lock = File::create(&place).map_err(|error| Failure::io("write in", &self.path, &error))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    // What the other run made is not this one's to remove.
                    self.made.clear();
                    return Err(Failure::usage(format!(
                        "{}: another run is writing here\nhelp: wait for its end, or give another folder to --out",
                        self.path.display()
                    )));
                }
                // A file system without locks: the run goes on as it would without them.
                Err(TryLockError::Error(_)) => return Ok(()),
            }
            // A run that ended may have removed the file between the two calls: then this lock holds nobody off.
            if identity(lock.metadata()) == identity(std::fs::metadata(&place)) {
                self.lock = Some(lock);
                return Ok(());
            }
        }
    }

    /// A folder to read from.
    fn existing(path: &Path) -> Folder {
        Folder { path: path.to_owned(), lock: None, made: Vec::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a state was saved here.
    pub(crate) fn holds_state(&self) -> bool {
        self.path.join(CURRENT).exists()
    }

    /// What a path that is no folder of checkpoints may stand for.
    fn where_else(&self) -> String {
        let parent = self.path.parent().filter(|parent| parent.join(CURRENT).exists());
        match parent {
            Some(parent) => format!("give the folder itself: {}", parent.display()),
            None if self.path.is_dir() => {
                "give the folder that `train --out` wrote; a run that was ended before its first save is begun again with --out".to_owned()
            }
            None => "give the folder that `train --out` wrote".to_owned(),
        }
    }

    fn current(&self) -> Result<Current, Failure> {
        let path = self.path.join(CURRENT);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Err(Failure::input(format!(
                    "{}: there is no checkpoint here ({CURRENT} is missing)\nhelp: {}",
                    self.path.display(),
                    self.where_else()
                )));
            }
            Err(error) => return Err(Failure::io("read", &path, &error)),
        };
        let current: Current = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::input(format!(
                "{}: is damaged: {error}\nhelp: it names the best and the last generation; restore it from a copy",
                path.display()
            ))
        })?;
        check_format(&path.display().to_string(), current.format)?;
        Ok(current)
    }

    /// Begins with the generations of another folder, so that a run resumed into a new folder knows its best state.
    pub(crate) fn take_over(&self, from: &Path) -> Result<(), Failure> {
        let same = std::fs::canonicalize(from).ok() == std::fs::canonicalize(&self.path).ok();
        if same {
            return Ok(());
        }
        if self.holds_state() {
            return Err(Failure::usage(format!(
                "{}: holds a checkpoint already\nhelp: give a new folder to --out, or the one that is resumed",
                self.path.display()
            )));
        }
        let current = Folder::existing(from).current()?;
        for name in [&current.best, &current.last] {
            let target = self.path.join(name);
            std::fs::create_dir_all(&target).map_err(|error| Failure::io("create", &target, &error))?;
            for file in [MODEL, WEIGHTS, OPTIMIZER, VOCAB, TRANSFORMS, PROGRESS] {
                let source = from.join(name).join(file);
                let bytes = std::fs::read(&source).map_err(|error| Failure::io("read", &source, &error))?;
                write_synced(&target.join(file), &bytes)?;
            }
        }
        self.point_at(&current)
    }

    /// Saves a state; it becomes the last, and the best if it is.
    pub(crate) fn save(&self, model: &Model<'_>, progress: &Progress, is_best: bool) -> Result<(), Failure> {
        let name = format!("generation-{:06}", progress.epoch);
        let files = generation_files(model, progress)?;
        let temporary = self.path.join(format!(".{name}.partial"));
        let _ = std::fs::remove_dir_all(&temporary);
        std::fs::create_dir(&temporary).map_err(|error| Failure::io("create", &temporary, &error))?;
        for (file, bytes) in &files {
            write_synced(&temporary.join(file), bytes)?;
        }
        sync_folder(&temporary)?;
        let target = self.path.join(&name);
        let mut current = self.current().unwrap_or_default();
        if target.exists() {
            // Left by a run that ended before it pointed at it: a run goes on from the last state, so nothing points at the next.
            std::fs::remove_dir_all(&target).map_err(|error| Failure::io("replace", &target, &error))?;
        }
        std::fs::rename(&temporary, &target).map_err(|error| Failure::io("rename", &temporary, &error))?;
        current.format = FORMAT;
        current.last.clone_from(&name);
        if is_best || current.best.is_empty() {
            current.best = name;
        }
        self.point_at(&current)?;
        self.remove_others(&current);
        Ok(())
    }

    /// Replaces the pointer file, whole.
    fn point_at(&self, current: &Current) -> Result<(), Failure> {
        let pointer = self.path.join(format!(".{CURRENT}.partial"));
        write_synced(&pointer, &json(current)?)?;
        std::fs::rename(&pointer, self.path.join(CURRENT)).map_err(|error| Failure::io("rename", &pointer, &error))?;
        sync_folder(&self.path)
    }

    /// Generations that nothing points at any more.
    fn remove_others(&self, current: &Current) {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let generation = name.starts_with("generation-") || name.starts_with(".generation-");
            if generation && name != current.best && name != current.last {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Opens the files of a generation; what is read is checked by [`Generation::verify`].
    pub(crate) fn read(&self, which: Which) -> Result<Generation, Failure> {
        let current = self.current()?;
        let name = if which == Which::Best { &current.best } else { &current.last };
        let folder = self.path.join(name);
        let mut files = BTreeMap::new();
        for file in [MODEL, WEIGHTS, OPTIMIZER, VOCAB, TRANSFORMS, PROGRESS] {
            let path = folder.join(file);
            files.insert(file.to_owned(), Contents::of_file(&path).map_err(|error| Failure::io("read", &path, &error))?);
        }
        Ok(Generation { place: folder.display().to_string(), files })
    }
}

fn check_format(place: &str, format: u32) -> Result<(), Failure> {
    if format > FORMAT {
        return Err(Failure::input(format!(
            "{place}: is of format {format}, and this program reads up to {FORMAT}\nhelp: build the model with the newer recc"
        )));
    }
    Ok(())
}

fn generation_files(model: &Model<'_>, progress: &Progress) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let program = model.program;
    let mut files = BTreeMap::new();
    files.insert(WEIGHTS.to_owned(), tensors(model, false)?);
    files.insert(OPTIMIZER.to_owned(), tensors(model, true)?);
    files.insert(VOCAB.to_owned(), vocab_file(&program.columns, &model.fitted)?);
    let moments = program
        .columns
        .iter()
        .zip(&model.fitted.moments)
        .filter(|(column, _)| column.kind.reading().is_some_and(|reading| reading.moments.is_some()));
    let moments = moments.map(|(column, &(mean, deviation))| {
        (column.name.as_str(), Transform { mean: Some(mean), deviation: Some(deviation), quantiles: Vec::new() })
    });
    let mut transforms: BTreeMap<&str, Transform> = moments.collect();
    for &(column, share, value) in &model.fitted.quantiles {
        transforms.entry(&program.columns[column as usize].name).or_default().quantiles.push((share, value));
    }
    files.insert(TRANSFORMS.to_owned(), json(&transforms)?);
    files.insert(PROGRESS.to_owned(), json(progress)?);
    let mut parameters = Vec::new();
    for (at, variable) in program.variables.iter().enumerate() {
        if variable.role != Role::Optimizer {
            parameters.extend(model.saved(at).into_iter().map(|part| Parameter { path: part.path, shape: part.shape }));
        }
    }
    parameters.sort_by(|a, b| a.path.cmp(&b.path));
    let sums = files.iter().map(|(name, bytes)| (name.clone(), hex(bytes))).collect();
    let file = ModelFile {
        format: FORMAT,
        name: program.name.clone(),
        hash: program.hash.clone(),
        resolved: program.resolved.clone(),
        parameters,
        files: sums,
    };
    files.insert(MODEL.to_owned(), json(&file)?);
    Ok(files)
}

/// Little-endian bytes of floats.
fn float_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn tensors(model: &Model<'_>, optimizer: bool) -> Result<Vec<u8>, Failure> {
    let mut parts: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (at, variable) in model.program.variables.iter().enumerate() {
        if (variable.role == Role::Optimizer) == optimizer {
            for part in model.saved(at) {
                let count: usize = part.shape.iter().product();
                let values = &model.values[at].floats()[part.start..part.start + count];
                parts.push((part.path, part.shape, float_bytes(values)));
            }
        }
    }
    let views: Result<Vec<(String, TensorView<'_>)>, _> = parts
        .iter()
        .map(|(path, shape, bytes)| TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (path.clone(), view)))
        .collect();
    let views = views.map_err(|error| Failure::internal("checkpoint", error))?;
    safetensors::serialize(views, None).map_err(|error| Failure::internal("checkpoint", error))
}

fn vocab_file(columns: &[Column], fitted: &Fitted) -> Result<Vec<u8>, Failure> {
    let (mut features, mut tokens): (Vec<&str>, Vec<&[u8]>) = Default::default();
    let (mut ids, mut counts): (Vec<u64>, Vec<u64>) = Default::default();
    for (column, vocab) in columns.iter().zip(&fitted.vocabs) {
        for (at, (token, count)) in vocab.words().enumerate() {
            features.push(&column.name);
            tokens.push(token);
            ids.push(at as u64 + 1);
            counts.push(count);
        }
    }
    let bug = |error: &dyn std::fmt::Display| Failure::internal("checkpoint", error);
    let arrays: [(&str, ArrayRef); 4] = [
        ("feature", Arc::new(LargeStringArray::from(features))),
        ("token", Arc::new(LargeBinaryArray::from(tokens))),
        ("id", Arc::new(UInt64Array::from(ids))),
        ("count", Arc::new(UInt64Array::from(counts))),
    ];
    let batch = RecordBatch::try_from_iter(arrays).map_err(|error| bug(&error))?;
    let mut out = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut out, batch.schema(), None).map_err(|error| bug(&error))?;
    writer.write(&batch).map_err(|error| bug(&error))?;
    writer.close().map_err(|error| bug(&error))?;
    Ok(out)
}

impl Generation {
    /// The files as bytes, for baking into an executable.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Failure> {
        let files = self.files.iter().filter(|(name, _)| name.as_str() != OPTIMIZER).map(|(name, file)| (name, file.bytes()));
        recc_abi::encode(&files.collect::<Vec<_>>()).map_err(|error| Failure::internal("bake", error))
    }

    /// The files an executable holds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Generation, Failure> {
        let files: Vec<(String, Vec<u8>)> = recc_abi::decode(bytes).map_err(|error| Failure::internal("start", error))?;
        let files = files.into_iter().map(|(name, bytes)| (name, Contents::Held(bytes))).collect();
        Ok(Generation { place: "the weights inside this executable".to_owned(), files })
    }

    fn file(&self, name: &str) -> Result<&[u8], Failure> {
        self.files
            .get(name)
            .map(Contents::bytes)
            .ok_or_else(|| Failure::input(format!("{}: {name} is missing\nhelp: give the folder that `train --out` wrote", self.place)))
    }

    fn damaged(&self, name: &str, what: &dyn std::fmt::Display) -> Failure {
        Failure::input(format!("{}/{name}: is damaged: {what}\nhelp: restore it from a copy, or train again", self.place))
    }

    /// Checks that this is a whole state of a program's model, for scoring or for going on with its training.
    pub fn verify(&self, program: &Program, purpose: Purpose) -> Result<(), Failure> {
        let model: ModelFile = serde_json::from_slice(self.file(MODEL)?).map_err(|error| self.damaged(MODEL, &error))?;
        check_format(&format!("{}/{MODEL}", self.place), model.format)?;
        if model.hash != program.hash {
            let compared = |resolved: &str| match purpose {
                // Training may go on for longer than was planned.
                Purpose::Resume => {
                    resolved.lines().filter(|line| !line.starts_with("  epochs: ")).map(|line| format!("{line}\n")).collect()
                }
                Purpose::Score => scoring_part(resolved),
            };
            let (own, other) = (compared(&program.resolved), compared(&model.resolved));
            if own != other {
                let (own, other) = first_difference(&own, &other);
                let message = format!(
                    "{}: the spec it was trained with, `{}`, was another\n  here:  {own}\n  there: {other}",
                    self.place, model.name
                );
                return Err(Failure::input(format!("{message}\nhelp: build the spec it was trained with, or train this one")));
            }
        }
        for (name, sum) in &model.files {
            // Scoring has no use for the optimizer's state, which may be twice the tables.
            let needed = purpose == Purpose::Resume || name != OPTIMIZER;
            if let Some(file) = self.files.get(name)
                && needed
                && hex(file.bytes()) != *sum
            {
                return Err(self.damaged(name, &"its checksum differs from the one in model.json"));
            }
        }
        Ok(())
    }

    /// Where training stood.
    /// The resolved spec it was trained with; whether the state is whole is looked at as well.
    pub fn resolved(&self) -> Result<String, Failure> {
        let model: ModelFile = serde_json::from_slice(self.file(MODEL)?).map_err(|error| self.damaged(MODEL, &error))?;
        check_format(&format!("{}/{MODEL}", self.place), model.format)?;
        for name in [WEIGHTS, VOCAB] {
            if model.files.get(name).is_some_and(|sum| self.files.get(name).is_none_or(|file| hex(file.bytes()) != *sum)) {
                return Err(self.damaged(name, &"it is not what was written"));
            }
        }
        Ok(model.resolved)
    }

    /// The numbers of a parameter, or of a member of a table.
    pub(crate) fn tensor(&self, path: &str) -> Result<Vec<f32>, Failure> {
        let tensors = SafeTensors::deserialize(self.file(WEIGHTS)?).map_err(|error| self.damaged(WEIGHTS, &error))?;
        let tensor = tensors.tensor(path).map_err(|error| self.damaged(WEIGHTS, &format!("{path}: {error}")))?;
        if tensor.dtype() != Dtype::F32 {
            return Err(self.damaged(WEIGHTS, &format!("{path} holds no 32-bit floats")));
        }
        Ok(tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect())
    }

    pub(crate) fn progress(&self) -> Result<Progress, Failure> {
        serde_json::from_slice(self.file(PROGRESS)?).map_err(|error| self.damaged(PROGRESS, &error))
    }

    /// What was learned from data.
    /// The vocabularies by feature.
    pub(crate) fn vocabularies(&self) -> Result<BTreeMap<String, Vocab>, Failure> {
        let bytes = bytes::Bytes::copy_from_slice(self.file(VOCAB)?);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .and_then(|builder| builder.build())
            .map_err(|error| self.damaged(VOCAB, &error))?;
        let mut parts: BTreeMap<String, Vocab> = BTreeMap::new();
        for batch in reader {
            let batch = batch.map_err(|error| self.damaged(VOCAB, &error))?;
            let (features, tokens, counts) =
                (batch.column(0).as_string::<i64>(), batch.column(1).as_binary::<i64>(), batch.column(3).as_primitive::<UInt64Type>());
            for at in 0..batch.num_rows() {
                parts.entry(features.value(at).to_owned()).or_default().learn(tokens.value(at), counts.value(at));
            }
        }
        Ok(parts)
    }

    pub(crate) fn fitted(&self, program: &Program) -> Result<Fitted, Failure> {
        let mut parts = self.vocabularies()?;
        let transforms: BTreeMap<String, Transform> =
            serde_json::from_slice(self.file(TRANSFORMS)?).map_err(|error| self.damaged(TRANSFORMS, &error))?;
        let vocabs = program.columns.iter().map(|column| match column.kind.numbering() {
            Some(Encoder::Vocab { .. }) => parts.remove(&column.name).unwrap_or_default(),
            _ => Vocab::default(),
        });
        let vocabs = vocabs.collect();
        let own = |column: &recc_abi::Column| transforms.get(&column.name);
        let moment = |column| own(column).and_then(|own| Some((own.mean?, own.deviation?))).unwrap_or((0.0, 1.0));
        let moments = program.columns.iter().map(moment);
        let quantiles = |(column, at): (_, u32)| {
            own(column).into_iter().flat_map(move |own| own.quantiles.iter().map(move |&(share, value)| (at, share, value)))
        };
        let quantiles = program.columns.iter().zip(0..).flat_map(quantiles).collect();
        Ok(Fitted::restored(vocabs, moments.collect(), quantiles))
    }

    /// Fills a model's values and its optimizer's state.
    pub(crate) fn load(&self, model: &mut Model<'_>) -> Result<(), Failure> {
        self.load_file(model, WEIGHTS, false, &mut |_, _| Ok(()))?;
        self.load_file(model, OPTIMIZER, true, &mut |_, _| Ok(()))
    }

    /// Fills a model's values; `loaded` takes each variable as soon as it is there.
    pub(crate) fn load_values(
        &self,
        model: &mut Model<'_>,
        loaded: &mut dyn FnMut(&mut Model<'_>, usize) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.load_file(model, WEIGHTS, false, loaded)
    }

    fn load_file(
        &self,
        model: &mut Model<'_>,
        name: &str,
        optimizer: bool,
        loaded: &mut dyn FnMut(&mut Model<'_>, usize) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let tensors = SafeTensors::deserialize(self.file(name)?).map_err(|error| self.damaged(name, &error))?;
        for at in 0..model.program.variables.len() {
            // What only training reads has no memory when scoring.
            let absent = model.values[at].len() == 0 && !model.program.variables[at].scored;
            if (model.program.variables[at].role == Role::Optimizer) != optimizer || absent {
                continue;
            }
            for part in model.saved(at) {
                let tensor = tensors.tensor(&part.path).map_err(|error| self.damaged(name, &format!("{}: {error}", part.path)))?;
                if tensor.shape() != part.shape || tensor.dtype() != Dtype::F32 {
                    return Err(self.damaged(name, &format!("{} has shape {:?}, not {:?}", part.path, tensor.shape(), part.shape)));
                }
                let values = &mut model.values[at].floats_mut()[part.start..];
                for (value, bytes) in values.iter_mut().zip(tensor.data().chunks_exact(4)) {
                    *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
            }
            loaded(model, at)?;
        }
        Ok(())
    }
}

/// What of a resolved spec decides over scores: its inputs, its tables, the shapes of parameters and the scoring graph.
fn scoring_part(resolved: &str) -> String {
    let mut section = "";
    let mut out = String::new();
    for line in resolved.lines() {
        if !line.starts_with(' ') {
            section = line;
        }
        let taken = match section {
            "features" | "tables" | "rankings" | "scoring" => line,
            // Behind the shape stands how a parameter begins.
            "parameters" => line.split_inclusive(']').next().unwrap_or(line),
            _ => continue,
        };
        out.push_str(taken);
        out.push('\n');
    }
    out
}

/// The first lines in which two resolved specs differ, with their sections.
fn first_difference(own: &str, other: &str) -> (String, String) {
    let longest = own.lines().count().max(other.lines().count());
    let padded = |text: &'_ str| text.lines().map(str::to_owned).chain(std::iter::repeat(String::new())).take(longest).collect::<Vec<_>>();
    let mut section = String::new();
    let (a, b) = padded(own)
        .into_iter()
        .zip(padded(other))
        .find(|(a, b)| {
            if a == b && !a.starts_with(' ') {
                section.clone_from(a);
            }
            a != b
        })
        .unwrap_or_default();
    (format!("{section}: {}", a.trim()), format!("{section}: {}", b.trim()))
}

/// Reads the state a command names: a folder of checkpoints.
pub fn open(path: &Path, which: Which) -> Result<Generation, Failure> {
    Folder::existing(path).read(which)
}
