//! `recc`: the compiler's command line, and the launcher of every compiled model.

mod cost;
mod diff;
mod driver;
mod elf;
mod explain;
mod launcher;
mod library;
mod new;
mod report;
mod sweep;

use clap::{Args, Parser, Subcommand, ValueEnum};
use recc_abi::Program;
use recc_codegen::{HEADER, Level, print_assembly, print_clif};
use recc_core::loops::Kernel;
use recc_core::problem::Severity;
use recc_core::spec::Spec;
use recc_core::{Override, Sources};
use recc_rt::{Failure, Which, finish};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Compiles a `.rec` spec of a recommendation model to one executable that trains, evaluates and scores it.
#[derive(Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "Examples:\n  recc run examples/quickstart.rec\n  recc build model.rec -o model\n  recc check model.rec\n  recc explain E0203"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build, train and evaluate in one go, with the spec's own data
    #[command(after_help = "Example:\n  recc run examples/quickstart.rec -- --epochs 2")]
    Run(RunArgs),
    /// Write the executable
    #[command(after_help = "Examples:\n  recc build model.rec -o model\n  recc build model.rec -o scorer --weights ck --cpu x86-64-v3")]
    Build(BuildArgs),
    /// Report all problems, without generating code
    #[command(
        after_help = "Examples:\n  recc check model.rec\n  recc check --cost model.rec -D DIM=32\n  recc check --format sarif examples/*.rec"
    )]
    Check(CheckArgs),
    /// Print any level of the compilation as text
    #[command(
        after_help = "Examples:\n  recc emit model.rec --stage step\n  recc emit model.rec --stage clif --kernel recc_score_deepfm_deep_mlp_linear"
    )]
    Emit(EmitArgs),
    /// Write a spec to start from
    #[command(
        after_help = "Examples:\n  recc new clicks\n  recc new clicks --from train.csv.gz\n  recc new clicks --from train.csv.gz --label bought\n  recc new next --from events.csv --next item --by user"
    )]
    New(NewArgs),
    /// Rewrite specs in the one style
    #[command(after_help = "Examples:\n  recc fmt model.rec\n  recc fmt --check examples/*.rec\n  recc fmt --diff model.rec")]
    Fmt(FmtArgs),
    /// Say which parameters of one spec or state another has: what a warm start keeps
    #[command(after_help = "Examples:\n  recc diff old.rec new.rec\n  recc diff ck new.rec")]
    Diff {
        /// The spec, or the folder of checkpoints, to start from
        old: PathBuf,
        /// The spec, or the folder, that is to be started
        new: PathBuf,
        /// Override a constant of the specs that declare it
        #[arg(short = 'D', value_name = "NAME=VALUE", value_parser = parse_override)]
        define: Vec<Override>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Train a spec for every combination of some constants, and show what each size brings
    #[command(
        after_help = "Example:\n  recc sweep next.rec -D LAYERS=1,2,4 -D DIM=16,32,64 --out sizes -- --train events.csv.gz\n\nA combination that has been trained by the same spec, flags and data is not trained again, so that a sweep that was stopped goes on with the next one."
    )]
    Sweep(SweepArgs),
    /// Show the page of an error
    Explain {
        /// Such as E0203
        code: String,
    },
}

#[derive(Args)]
struct Common {
    /// The spec
    spec: PathBuf,
    /// Override a constant of the spec
    #[arg(short = 'D', value_name = "NAME=VALUE", value_parser = parse_override)]
    define: Vec<Override>,
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    common: Common,
    /// What trains the model
    #[arg(long, value_enum, default_value_t = Target::Cpu)]
    target: Target,
    /// Flags of `train`
    #[arg(last = true)]
    train: Vec<String>,
}

#[derive(Args)]
struct BuildArgs {
    #[command(flatten)]
    common: Common,
    /// The executable
    #[arg(short, long)]
    output: PathBuf,
    /// What runs the model
    #[arg(long, value_enum, default_value_t = Target::Cpu)]
    target: Target,
    /// Processor level: native, x86-64-v2, x86-64-v3, x86-64-v4 [default: native]
    #[arg(long, value_parser = parse_level)]
    cpu: Option<Level>,
    /// Put the best weights of this folder inside: a scorer that needs no other file
    #[arg(long)]
    weights: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Target {
    /// This kind of processor
    Cpu,
    /// GPUs of NVIDIA
    Cuda,
}

impl Target {
    /// For this machine.
    fn here(self) -> driver::BuildTarget {
        match self {
            Target::Cpu => driver::BuildTarget::Cpu(Level::native()),
            Target::Cuda => driver::BuildTarget::Cuda,
        }
    }
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Text,
    Json,
    Sarif,
}

#[derive(Args)]
struct CheckArgs {
    /// The specs
    #[arg(required = true)]
    specs: Vec<PathBuf>,
    /// Override a constant of the specs
    #[arg(short = 'D', value_name = "NAME=VALUE", value_parser = parse_override)]
    define: Vec<Override>,
    /// How problems are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Print the spec with every default written out
    #[arg(long)]
    resolved: bool,
    /// Print what the model holds, and what an example costs it
    #[arg(long)]
    cost: bool,
}

#[derive(Args)]
struct NewArgs {
    /// The model's name; the spec is written to NAME.rec
    name: String,
    /// A data file with a header, whose columns become features
    #[arg(long)]
    from: Option<PathBuf>,
    /// The column to predict, if its name does not say so
    #[arg(long, requires = "from")]
    label: Option<String>,
    /// Rows are events: predict what comes next in this column
    #[arg(long, value_name = "COLUMN", requires = "from", conflicts_with = "label")]
    next: Option<String>,
    /// The column that says whose events belong together, if its name does not say so
    #[arg(long, value_name = "COLUMN", requires = "next")]
    by: Option<String>,
}

#[derive(Args)]
struct SweepArgs {
    /// The spec
    spec: PathBuf,
    /// Values of a constant of the spec
    #[arg(short = 'D', value_name = "NAME=VALUE,…", value_parser = sweep::parse_axis, required = true)]
    define: Vec<sweep::Axis>,
    /// Folder of the results
    #[arg(long)]
    out: PathBuf,
    /// The metric to compare by, such as auc [default: what the spec takes the best state by]
    #[arg(long)]
    metric: Option<String>,
    /// What trains the models
    #[arg(long, value_enum, default_value_t = Target::Cpu)]
    target: Target,
    /// Flags of `train`
    #[arg(last = true)]
    train: Vec<String>,
}

#[derive(Args)]
struct FmtArgs {
    /// The specs
    #[arg(required = true)]
    specs: Vec<PathBuf>,
    /// Write nothing; fail if a spec is not in the style
    #[arg(long, conflicts_with = "diff")]
    check: bool,
    /// Write nothing; print what would change
    #[arg(long)]
    diff: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Stage {
    /// The syntax tree, as text in one style
    Ast,
    /// The checked spec with every default
    Spec,
    /// The model's tensor graph
    Graph,
    /// The training step as a graph
    Step,
    /// The scoring call as a graph
    Score,
    /// Kernels as loops
    Loop,
    /// Buffers, and kernels in order
    Plan,
    /// Kernels in Cranelift's language
    Clif,
    /// Machine code
    Asm,
    /// Code for NVIDIA GPUs
    Ptx,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum GraphFormat {
    Text,
    Dot,
}

#[derive(Args)]
struct EmitArgs {
    #[command(flatten)]
    common: Common,
    /// The level
    #[arg(long, value_enum)]
    stage: Stage,
    /// What runs the model, for plans and loops
    #[arg(long, value_enum, default_value_t = Target::Cpu)]
    target: Target,
    /// Processor level, for clif and asm [default: x86-64-v3]
    #[arg(long, value_parser = parse_level)]
    cpu: Option<Level>,
    /// One kernel only
    #[arg(long)]
    kernel: Option<String>,
    /// `dot` draws graphs
    #[arg(long, value_enum, default_value_t = GraphFormat::Text)]
    format: GraphFormat,
}

fn parse_override(text: &str) -> Result<Override, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() && !value.trim().is_empty() => {
            Ok(Override { name: name.trim().to_owned(), value: value.trim().to_owned() })
        }
        _ => Err("write NAME=VALUE, such as -D WIDTH=800".to_owned()),
    }
}

fn parse_level(text: &str) -> Result<Level, String> {
    Level::parse(text).ok_or_else(|| "the levels are native, x86-64-v2, x86-64-v3 and x86-64-v4".to_owned())
}

fn main() -> ExitCode {
    if let Some(added) = launcher::added() {
        return ExitCode::from(run_model(&added));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    // A panic is a bug: say so, and use the status for it.
    let result = std::panic::catch_unwind(|| match cli.command {
        Command::Run(args) => run(&args),
        Command::Build(args) => build(&args),
        Command::Check(args) => check(&args),
        Command::Emit(args) => emit(&args),
        Command::New(args) => new_spec(&args),
        Command::Fmt(args) => fmt(&args),
        Command::Diff { old, new, define, json } => diff_command(&old, &new, &define, json),
        Command::Sweep(args) => sweep::sweep(&args.spec, &args.define, &args.out, args.metric.as_deref(), args.target.here(), &args.train),
        Command::Explain { code } => explain_command(&code),
    });
    ExitCode::from(match result {
        Ok(Ok(status)) => status,
        Ok(Err(failure)) => finish(Err(failure)),
        Err(_) => finish(Err(Failure::internal("the compiler", "it stopped at the place above"))),
    })
}

fn run_model(added: &launcher::Added) -> u8 {
    let program: Program = match recc_abi::decode(added.program) {
        Ok(program) => program,
        Err(error) => return finish(Err(Failure::internal("start", error))),
    };
    let weights = (!added.weights.is_empty()).then_some(added.weights);
    let args: Vec<OsString> = std::env::args_os().collect();
    let result = std::panic::catch_unwind(|| recc_rt::run(&program, added.code, weights, args));
    result.unwrap_or_else(|_| finish(Err(Failure::internal("the model", "it stopped at the place above"))))
}

fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::input(format!("cannot write: {error}"))),
        _ => Ok(()),
    }
}

fn say(text: &str) {
    // Messages are for people; a closed standard error changes nothing.
    let _ = write!(std::io::stderr(), "{text}");
}

/// The spec, with its problems said; `None` if there are errors.
fn checked(common: &Common) -> Result<Option<(Sources, Spec)>, Failure> {
    let sources = driver::sources(&common.spec)?;
    let checked = driver::check(&sources, &common.define);
    say(&report::text(&sources, &checked.problems));
    Ok(checked.spec.map(|spec| (sources, spec)))
}

fn diff_command(old: &Path, new: &Path, define: &[Override], json: bool) -> Result<u8, Failure> {
    match diff::diff(old, new, define, json, &|text| say(text))? {
        Some(text) => {
            print(&text)?;
            Ok(0)
        }
        None => Ok(1),
    }
}

fn run(args: &RunArgs) -> Result<u8, Failure> {
    let Some((sources, spec)) = checked(&args.common)? else { return Ok(1) };
    let model = driver::compile(&sources, &spec, args.target.here())?;
    let folder = tempfile::Builder::new()
        .prefix("recc-run-")
        .tempdir()
        .map_err(|error| Failure::input(format!("cannot make a temporary folder: {error}")))?;
    let executable = folder.path().join(&spec.name);
    driver::write_executable(&model, None, &executable)?;
    let mut command = std::process::Command::new(&executable);
    command.arg("train").args(&args.train);
    let given = |flag: &str| args.train.iter().any(|arg| arg == flag || arg.starts_with(&format!("{flag}=")));
    if !given("--out") {
        command.arg("--out").arg(folder.path().join("checkpoint"));
    }
    let status = command.status().map_err(|error| Failure::io("run", &executable, &error))?;
    if status.success() && !given("--out") && !given("--json") {
        say("the weights were not kept: add `--out FOLDER` behind `--`\n");
    }
    Ok(status.code().map_or(70, |code| code as u8))
}

fn build(args: &BuildArgs) -> Result<u8, Failure> {
    let target = match (args.target, args.cpu) {
        (Target::Cpu, Some(level)) => driver::BuildTarget::Cpu(level),
        (target, None) => target.here(),
        (Target::Cuda, Some(_)) => {
            return Err(Failure::usage("--cpu: a model for `--target cuda` has no code of a processor\nhelp: leave one of them out"));
        }
    };
    if std::fs::canonicalize(&args.output).is_ok_and(|out| std::fs::canonicalize(&args.common.spec).is_ok_and(|spec| spec == out)) {
        let message = format!("-o {}: this is the spec itself", args.output.display());
        return Err(Failure::usage(format!("{message}\nhelp: give the executable another name")));
    }
    let Some((sources, spec)) = checked(&args.common)? else { return Ok(1) };
    let same =
        |path: &String| std::fs::canonicalize(path).is_ok_and(|data| std::fs::canonicalize(&args.output).is_ok_and(|out| out == data));
    if let Some(data) = [&spec.data.train, &spec.data.valid, &spec.data.test].into_iter().flatten().find(|path| same(path)) {
        let message = format!("-o {}: this is {data}, which the spec reads", args.output.display());
        return Err(Failure::usage(format!("{message}\nhelp: give the executable another name")));
    }
    let model = driver::compile(&sources, &spec, target)?;
    let generation = args.weights.as_deref().map(|path| recc_rt::open_checkpoint(path, Which::Best)).transpose()?;
    driver::write_executable(&model, generation.as_ref(), &args.output)?;
    Ok(0)
}

fn check(args: &CheckArgs) -> Result<u8, Failure> {
    if (args.cost || args.resolved) && args.format != Format::Text {
        let flag = if args.cost { "--cost" } else { "--resolved" };
        return Err(Failure::usage(format!("{flag} prints text\nhelp: leave `--format` out")));
    }
    let (mut failed, mut found) = (false, Vec::new());
    for path in &args.specs {
        let sources = match driver::sources(path) {
            Ok(sources) => sources,
            Err(failure) => {
                failed = true;
                say(&format!("error: {failure}\n"));
                continue;
            }
        };
        let checked = driver::check(&sources, &args.define);
        failed |= checked.problems.iter().any(|problem| problem.severity == Severity::Error);
        match args.format {
            Format::Text => say(&report::text(&sources, &checked.problems)),
            Format::Json | Format::Sarif => found.push((sources, checked.problems)),
        }
        if let (true, Some(spec)) = (args.resolved, &checked.spec) {
            print(&spec.resolved())?;
        }
        if let (true, Some(spec)) = (args.cost, &checked.spec) {
            print(&cost::text(spec)?)?;
        }
    }
    match args.format {
        Format::Text => {}
        Format::Json => print(&format!("{}\n", report::json_list(&found)))?,
        Format::Sarif => print(&format!("{}\n", report::sarif(&found)))?,
    }
    Ok(u8::from(failed))
}

fn new_spec(args: &NewArgs) -> Result<u8, Failure> {
    let name = &args.name;
    if !new::is_name(name) {
        return Err(Failure::usage(format!("{name:?} is no name of a model\nhelp: letters, digits and `_`, such as `clicks`")));
    }
    let path = PathBuf::from(format!("{name}.rec"));
    if path.exists() {
        return Err(Failure::usage(format!("{}: is there already\nhelp: choose another name, or move the file away", path.display())));
    }
    let text = match &args.from {
        Some(data) => {
            let wanted = new::Wanted { label: args.label.as_deref(), next: args.next.as_deref(), by: args.by.as_deref() };
            new::inferred(name, data, &wanted)?
        }
        None => new::plain(name),
    };
    driver::write_new(&path, &text)?;
    say(&format!("{}: written; `recc run {}` trains it\n", path.display(), path.display()));
    Ok(0)
}

fn fmt(args: &FmtArgs) -> Result<u8, Failure> {
    let mut status = 0;
    for path in &args.specs {
        let text = match driver::read(path) {
            Ok(text) => text,
            Err(failure) => {
                status = 1;
                say(&format!("error: {failure}\n"));
                continue;
            }
        };
        let problems = driver::syntax(path, &text);
        if !problems.0.is_empty() {
            status = 1;
            say(&report::text(&problems.1, &problems.0));
            continue;
        }
        let formatted = recc_syntax::format(&text);
        if formatted == text {
            continue;
        }
        if args.diff {
            let name = path.display().to_string();
            print(&similar::TextDiff::from_lines(&text, &formatted).unified_diff().header(&name, &name).to_string())?;
        } else if args.check {
            status = 1;
            say(&format!("{}: not in the style; `recc fmt {}` rewrites it\n", path.display(), path.display()));
        } else {
            driver::replace(path, &formatted)?;
        }
    }
    Ok(status)
}

fn emit(args: &EmitArgs) -> Result<u8, Failure> {
    let drawn = matches!(args.stage, Stage::Graph | Stage::Step | Stage::Score);
    if args.format == GraphFormat::Dot && !drawn {
        return Err(Failure::usage("--format dot: only graphs are drawn\nhelp: with `--stage graph`, `step` or `score`"));
    }
    let sources = driver::sources(&args.common.spec)?;
    let checked = driver::check(&sources, &args.common.define);
    if args.stage == Stage::Ast {
        say(&report::text(&sources, &checked.problems));
        print(&recc_syntax::print_file(&checked.file))?;
        return Ok(u8::from(checked.problems.iter().any(|problem| problem.severity == Severity::Error)));
    }
    say(&report::text(&sources, &checked.problems));
    let Some(spec) = checked.spec else { return Ok(1) };
    let text = emitted(args, &spec)?;
    print(&text)?;
    Ok(0)
}

fn emitted(args: &EmitArgs, spec: &Spec) -> Result<String, Failure> {
    let of_processor = matches!(args.stage, Stage::Clif | Stage::Asm);
    if args.target == Target::Cuda && of_processor {
        return Err(Failure::usage("--target cuda: Cranelift's language and machine code are a processor's\nhelp: use `--stage ptx`"));
    }
    if args.cpu.is_some() && !of_processor {
        return Err(Failure::usage("--cpu: only `--stage clif` and `--stage asm` differ by processor\nhelp: leave it out"));
    }
    if args.kernel.is_some() && !matches!(args.stage, Stage::Loop | Stage::Clif | Stage::Asm | Stage::Ptx) {
        return Err(Failure::usage("--kernel: this stage has no kernels\nhelp: use it with `--stage loop`, `clif`, `asm` or `ptx`"));
    }
    let level = args.cpu.unwrap_or(Level::V3);
    if args.stage == Stage::Spec {
        return Ok(spec.resolved());
    }
    let cuda = args.target == Target::Cuda || args.stage == Stage::Ptx;
    let built = if cuda { driver::build_for_device(spec)? } else { driver::build(spec)? };
    let graph = |program: &recc_core::graph::Program| if args.format == GraphFormat::Dot { program.to_dot() } else { program.to_string() };
    let kernels = |print: &dyn Fn(&Kernel) -> Result<String, Failure>| -> Result<String, Failure> {
        let wanted: Vec<&Kernel> = built.kernels().filter(|kernel| args.kernel.as_ref().is_none_or(|name| *name == kernel.name)).collect();
        if let (true, Some(name)) = (wanted.is_empty(), &args.kernel) {
            let names: Vec<&str> = built.kernels().map(|kernel| kernel.name.as_str()).collect();
            return Err(Failure::usage(format!("there is no kernel {name}\nhelp: the kernels are\n  {}", names.join("\n  "))));
        }
        let texts: Result<Vec<String>, Failure> = wanted.into_iter().map(print).collect();
        Ok(texts?.join("\n"))
    };
    let verified = |kernel: &Kernel,
                    print: &dyn Fn(recc_core::loops::VerifiedKernel<'_>) -> Result<String, recc_codegen::CodegenError>|
     -> Result<String, Failure> {
        let kernel = driver::verified(std::iter::once(kernel))?[0];
        print(kernel).map_err(|error| Failure::internal("code generation", error))
    };
    match args.stage {
        Stage::Graph => Ok(graph(&built.forward)),
        Stage::Step => Ok(graph(&built.step)),
        Stage::Score => Ok(graph(&built.score)),
        Stage::Plan => {
            let names = ["step", "score", "once", "each"];
            let plans: Vec<String> = names.iter().zip(built.plans()).map(|(name, planned)| format!("{name}\n{planned}")).collect();
            Ok(plans.join("\n"))
        }
        Stage::Loop => kernels(&|kernel| Ok(kernel.to_string())),
        Stage::Clif => kernels(&|kernel| verified(kernel, &|kernel| print_clif(kernel, level))),
        Stage::Asm => kernels(&|kernel| {
            let text = verified(kernel, &|kernel| print_assembly(kernel, level))?;
            Ok(format!("{}:\n{text}", kernel.name))
        }),
        Stage::Ptx => {
            let module = driver::device_module(&built)?;
            if args.kernel.is_none() {
                return Ok(module.text());
            }
            let places: BTreeMap<&str, usize> = built.kernels().enumerate().map(|(at, kernel)| (kernel.name.as_str(), at)).collect();
            kernels(&|kernel| Ok(module.text_of(places[kernel.name.as_str()]))).map(|text| format!("{HEADER}\n{text}"))
        }
        Stage::Ast | Stage::Spec => Ok(String::new()),
    }
}

fn explain_command(code: &str) -> Result<u8, Failure> {
    match explain::page(code) {
        Some(page) => {
            print(page)?;
            Ok(0)
        }
        None => Err(Failure::usage(format!("there is no page {code}\nhelp: codes look like E0203; an error shows its code in brackets"))),
    }
}
