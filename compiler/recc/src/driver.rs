//! The driver: from a file to a checked spec, to kernels, to an executable. The one place of the compiler that does IO.

use crate::elf::{Addition, Symbol, add};
use crate::library::MODULES;
use recc_abi::{BuildInfo, DeviceFunction, FORMAT, GroupedScore, KernelEntry, Program};
use recc_codegen::{Compiled, Level, Module, compile_kernels, emit_ptx};
use recc_core::loops::{Cost, Kernel, VerifiedKernel, Violation, cost, verify};
use recc_core::plan::{Machine, Planned};
use recc_core::problem::Problem;
use recc_core::spec::Spec;
use recc_core::{Built, Checked, Grouped, Override, Sources};
use recc_rt::{Failure, Generation, Purpose};
use recc_syntax::ast::FileId;
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The text of a spec.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::io("read", path, &error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::input(format!("{}: byte {at} is not UTF-8 text\nhelp: a spec is a text file; save it as UTF-8", path.display()))
    })?;
    if text.len() > 16 << 20 {
        return Err(Failure::input(format!("{}: a spec of more than 16 MiB is not read", path.display())));
    }
    // Some editors begin a file with a byte order mark.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The syntax errors of a text, and what they are shown in.
pub(crate) fn syntax(path: &Path, text: &str) -> (Vec<Problem>, Sources) {
    let sources = Sources { files: vec![(path.display().to_string(), text.to_owned())], imports: Vec::new() };
    let problems = recc_syntax::parse(FileId(0), text).problems;
    (problems.iter().map(|problem| Problem::syntax(FileId(0), problem)).collect(), sources)
}

/// Writes a text where nothing is yet.
pub(crate) fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || std::fs::File::create_new(path)?.write_all(text.as_bytes());
    write().map_err(|error: std::io::Error| Failure::io("write", path, &error))
}

/// Writes a text in place of another, which stays whole until the new one is.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    // What a link names is written, not the link.
    let path = &std::fs::canonicalize(path).map_err(|error| Failure::io("write", path, &error))?;
    if std::fs::metadata(path).is_ok_and(|own| own.permissions().readonly()) {
        return Err(Failure::input(format!("{}: is read-only\nhelp: `recc fmt --diff` shows what would change", path.display())));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(std::fs::metadata(path)?.permissions())?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error: std::io::Error| Failure::io("write", path, &error))
}

/// A spec's text beside the library's.
pub(crate) fn sources(path: &Path) -> Result<Sources, Failure> {
    let text = read(path)?;
    let library = MODULES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    // The message names the path already.
    let why = |failure: &Failure| failure.to_string().lines().next().unwrap_or_default().to_owned();
    Ok(Sources::gather(path, text, library, &mut |path| read(path).map_err(|failure| why(&failure))))
}

/// Checks a spec.
pub(crate) fn check(sources: &Sources, overrides: &[Override]) -> Checked {
    recc_core::check(sources, overrides)
}

/// Everything below the spec.
pub(crate) fn build(spec: &Spec) -> Result<Built, Failure> {
    recc_core::build(spec).map_err(|error| Failure::internal("build", error))
}

/// Everything below the spec, for a graphics processor.
pub(crate) fn build_for_device(spec: &Spec) -> Result<Built, Failure> {
    recc_core::build_for(spec, Machine::Device).map_err(|error| Failure::internal("build", error))
}

/// The module of a model that was built for a graphics processor.
pub(crate) fn device_module(built: &Built) -> Result<Module, Failure> {
    let module = |planned: &Planned| -> Result<Module, Failure> { Ok(emit_ptx(&planned.plan, &verified(planned.kernels.iter())?)) };
    Ok(module(&built.step_plan)?.join(module(&built.score_plan)?))
}

/// Kernels that hold the loop IR's invariants.
pub(crate) fn verified<'k>(kernels: impl Iterator<Item = &'k Kernel>) -> Result<Vec<VerifiedKernel<'k>>, Failure> {
    let why = |found: Vec<Violation>| found.into_iter().map(|violation| violation.0).collect::<Vec<_>>().join("; ");
    kernels.map(|kernel| verify(kernel).map_err(|found| Failure::internal("plan", why(found)))).collect()
}

/// Machine code and the program that goes with it.
pub(crate) struct Model {
    pub(crate) program: Program,
    pub(crate) code: Vec<u8>,
}

/// What runs a model.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuildTarget {
    /// A processor of this level, or a later one.
    Cpu(Level),
    /// A GPU of NVIDIA.
    Cuda,
}

impl BuildTarget {
    fn build_info(self) -> BuildInfo {
        let (target, cpu, features) = match self {
            BuildTarget::Cpu(level) => ("cpu", level.name().to_owned(), level.features()),
            BuildTarget::Cuda => ("cuda", "sm_80".to_owned(), Vec::new()),
        };
        BuildInfo { version: env!("CARGO_PKG_VERSION").to_owned(), target: target.to_owned(), cpu, features }
    }
}

/// Kernels as they lie in an executable, and what each calls on a device.
type Code = (Compiled, Option<Vec<Vec<DeviceFunction>>>);

/// The kernels' code: of a device it is the module's text.
fn code(built: &Built, target: BuildTarget) -> Result<Code, Failure> {
    match target {
        BuildTarget::Cpu(level) => {
            let compiled =
                compile_kernels(&verified(built.kernels())?, level).map_err(|error| Failure::internal("code generation", error))?;
            Ok((compiled, None))
        }
        BuildTarget::Cuda => {
            let module = device_module(built)?;
            let entry = |kernel: &Kernel| {
                let Cost { flops, bytes, bf16, ragged } = cost(kernel);
                let len = module.texts.get(&kernel.name).map_or(0, String::len) as u64;
                KernelEntry { name: kernel.name.clone(), offset: 0, len, flops, bytes, bf16, ragged }
            };
            Ok((Compiled { code: module.text().into_bytes(), entries: built.kernels().map(entry).collect() }, Some(module.kernels)))
        }
    }
}

/// Compiles a spec.
pub(crate) fn compile(sources: &Sources, spec: &Spec, target: BuildTarget) -> Result<Model, Failure> {
    let built = if target == BuildTarget::Cuda { build_for_device(spec)? } else { build(spec)? };
    let (compiled, device) = code(&built, target)?;
    let mut first = 0;
    // Kernels of all plans lie one after another.
    let mut placed = |planned: Planned| {
        let own = first;
        first += planned.kernels.len() as u32;
        shifted(planned, own)
    };
    let (step, score) = (placed(built.step_plan), placed(built.score_plan));
    let grouped = built.grouped.map(|Grouped { once, each, values }| GroupedScore { once: placed(once.1), each: placed(each.1), values });
    let resolved = spec.resolved();
    let hash = Sha256::digest(resolved.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let program = Program {
        format: FORMAT,
        name: spec.name.clone(),
        source: sources.files[0].1.clone(),
        resolved,
        hash,
        build: target.build_info(),
        data: spec.data.clone(),
        columns: spec.columns.clone(),
        tables: built.tables,
        variables: built.variables,
        predictions: spec.predictions.clone(),
        metrics: spec.metrics.clone(),
        cohorts: spec.cohorts.clone(),
        exposed: spec.exposed.clone(),
        inspected: spec.inspected.clone(),
        train: recc_core::train_spec(spec),
        step,
        score,
        grouped,
        kernels: compiled.entries,
        device,
    };
    Ok(Model { program, code: compiled.code })
}

/// A plan whose kernels stand behind others.
fn shifted(planned: Planned, first: u32) -> recc_abi::Plan {
    let mut plan = planned.plan;
    for job in plan.launches.iter_mut().flat_map(|launch| &mut launch.jobs) {
        job.kernels.iter_mut().for_each(|kernel| *kernel += first);
    }
    plan
}

/// Writes a model as an executable.
pub(crate) fn write_executable(model: &Model, weights: Option<&Generation>, out: &Path) -> Result<(), Failure> {
    let own = std::env::current_exe().map_err(|error| Failure::internal("link", error))?;
    let file = std::fs::read(&own).map_err(|error| Failure::io("read", &own, &error))?;
    let program = recc_abi::encode(&model.program).map_err(|error| Failure::internal("link", error))?;
    let weights = match weights {
        Some(generation) => {
            generation.verify(&model.program, Purpose::Score)?;
            generation.to_bytes()?
        }
        None => Vec::new(),
    };
    let of_processor = model.program.kernels.iter().filter(|_| model.program.device.is_none());
    let symbols = of_processor.map(|KernelEntry { name, offset, len, .. }| Symbol { name, offset: *offset, len: *len }).collect();
    let addition = Addition { code: &model.code, program: &program, weights: &weights, symbols };
    let bytes = add(&file, &addition).map_err(|error| Failure::internal("link", error))?;
    // A running executable cannot be written over; a new file takes its name.
    let temporary = out.with_extension(format!("partial-{}", std::process::id()));
    let write = || {
        std::fs::write(&temporary, &bytes)?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o755))?;
        std::fs::rename(&temporary, out)
    };
    write().map_err(|error| {
        // What is left of it would only confuse.
        let _ = std::fs::remove_file(&temporary);
        Failure::io("write", out, &error)
    })
}
