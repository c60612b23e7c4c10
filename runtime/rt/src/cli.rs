//! The command line of a compiled model.

use crate::bench::{self, BenchOptions};
use crate::checkpoint::{Generation, Which, open};
use crate::code::Code;
use crate::discovery::{self, Search};
use crate::engine::Loaded;
use crate::failure::Failure;
use crate::progress::say;
use crate::recommend::recommend;
use crate::train::{self, TrainOptions};
use crate::{predict, report};
use clap::{Args, Parser, Subcommand, ValueEnum};
use recc_abi::{ColumnKind, Drawing, Encoder, Program, Role, RowPart, Split, Take, Token};
use serde_json::json;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A compiled recommendation model: trains, evaluates and scores.
#[derive(Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "Examples:\n  model train --train train.csv.gz --valid valid.csv.gz --out ck\n  model eval --weights ck --data test.csv.gz --json\n  model predict --weights ck --data new.csv -o scores.csv"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the spec, its hash, features, parameters, kernels and the build
    Info {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Train, and evaluate the best state on the test data
    #[command(after_help = "Example:\n  model train --train train.csv.gz --valid valid.csv.gz --test test.csv.gz --out ck --json")]
    Train(TrainArgs),
    /// Measure a trained state on data with labels
    Eval {
        #[command(flatten)]
        measured: EvalArgs,
        /// Also show what the parameters look like: how many are near zero, and how many directions matrices use
        #[arg(long)]
        parameters: bool,
    },
    /// Score rows: one row out per row in, in order
    #[command(
        after_help = "Examples:\n  model predict --weights ck --data rows.csv.gz --output scores.csv\n  model predict --weights ck --data candidates.csv --group-by user"
    )]
    Predict(PredictArgs),
    /// The first values that a softmax ranks, for each row: what comes next
    #[command(after_help = "Example:\n  model recommend --weights ck --data events.csv.gz --top 20 --output first.csv")]
    Recommend(RecommendArgs),
    /// Parts of the rows that a trained state predicts most differently, feature by feature, with lines for the spec
    #[command(after_help = "Example:\n  model cohorts --weights ck --data valid.csv.gz --html cohorts.html")]
    Cohorts(CohortsArgs),
    /// Measure speed on drawn input
    Bench(BenchArgs),
}

#[derive(Args)]
pub(crate) struct TrainArgs {
    /// Training files, read in order; `-` is standard input
    #[arg(long, num_args = 1..)]
    train: Vec<String>,
    /// Validation files
    #[arg(long, num_args = 1..)]
    valid: Vec<String>,
    /// Test files
    #[arg(long, num_args = 1..)]
    test: Vec<String>,
    /// Folder for checkpoints [default: that of --resume]
    #[arg(long, required_unless_present = "resume")]
    out: Option<PathBuf>,
    /// Passes over the data, instead of the spec's
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: Option<u32>,
    /// Threads; the result does not depend on them [default: all processors]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Seed, instead of the spec's
    #[arg(long)]
    seed: Option<u64>,
    /// Go on from the last state of a folder
    #[arg(long)]
    resume: Option<PathBuf>,
    /// Begin with the parameters of another state that have the same paths and shapes, and the rows of values it knows: see `recc diff`
    #[arg(long, conflicts_with = "resume")]
    warm_start: Option<PathBuf>,
    /// Read at most this many rows of each part
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct EvalArgs {
    /// Folder of checkpoints (the best state is taken); not needed where weights are built in
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Data files with labels
    #[arg(long, num_args = 1.., required = true)]
    data: Vec<String>,
    /// Threads [default: all processors]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Read at most this many rows
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// Rows to score, and the state that scores them.
#[derive(Args)]
struct RowsArgs {
    /// Folder of checkpoints (the best state is taken); not needed where weights are built in
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Data files; labels are not needed
    #[arg(long, num_args = 1.., required = true)]
    data: Vec<String>,
    /// Threads [default: all processors]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Read at most this many rows
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

#[derive(Args)]
struct PredictArgs {
    #[command(flatten)]
    rows: RowsArgs,
    /// Where to write: .csv or .parquet [default: csv on standard output]
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Compute what is made of sequences alone once for the rows of each value of this key: many candidates for one history
    #[arg(long, value_name = "KEY")]
    group_by: Option<String>,
}

#[derive(Args)]
struct RecommendArgs {
    #[command(flatten)]
    rows: RowsArgs,
    /// How many for each row
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    top: u32,
    /// Where to write: .csv [default: csv on standard output]
    #[arg(short, long)]
    output: Option<PathBuf>,
}

#[derive(Args)]
struct CohortsArgs {
    /// The rows, with labels
    #[command(flatten)]
    measured: EvalArgs,
    /// The prediction [default: the first]
    #[arg(long, value_name = "NAME")]
    prediction: Option<String>,
    /// The least share of the rows that a cohort has
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = share)]
    least_share: f64,
    /// How many pairs to show: of each feature the one that differs most
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Also write a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share <= 0.5);
    number.ok_or_else(|| "a share is above 0 and at most 0.5".to_owned())
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Phase {
    Train,
    Score,
}

#[derive(Args)]
struct BenchArgs {
    /// What to measure
    #[arg(long, value_enum)]
    phase: Phase,
    /// Examples per step
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    batch: u64,
    /// Threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Steps to measure
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Rows of the dictionaries, which are not known before training: one for all, or one each, as 1000,20
    #[arg(long, default_value = "100000", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    vocab: Vec<u64>,
    /// Also show what each kernel takes, beside what this machine can do
    #[arg(long)]
    profile: bool,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

fn threads(wanted: Option<u16>) -> usize {
    wanted.map_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()), usize::from)
}

/// Writes to standard output; a reader that went away is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::input(format!("cannot write the result: {error}"))),
        _ => Ok(()),
    }
}

/// Runs the command line of a model and gives the exit status. `weights` are the trained weights inside the executable, if any.
pub fn run(program: &Program, code: Code, weights: Option<&[u8]>, args: Vec<std::ffi::OsString>) -> u8 {
    crate::memory::keep_what_is_freed();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    let loaded = Loaded { program, code };
    let needs_device = !matches!(cli.command, Command::Info { .. });
    let ready = || if needs_device { crate::device::open(program, code.bytes()).map(|_| ()) } else { Ok(()) };
    let result = check_processor(program).and_then(|()| ready()).and_then(|()| match cli.command {
        Command::Info { json } => info(program, weights.is_some(), json),
        Command::Train(args) => train_command(loaded, args),
        Command::Eval { measured, parameters } => eval_command(loaded, weights, &measured, parameters),
        Command::Predict(args) => predict_command(loaded, weights, &args),
        Command::Recommend(args) => recommend_command(loaded, weights, &args),
        Command::Cohorts(args) => cohorts_command(loaded, weights, &args),
        Command::Bench(args) => bench_command(loaded, &args),
    });
    finish(result)
}

/// Prints a failure and gives the exit status.
pub fn finish(result: Result<(), Failure>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(failure) => {
            say(&format!("error: {failure}"));
            failure.status
        }
    }
}

/// Code built for a higher level than this processor's would stop at an unknown instruction.
fn check_processor(program: &Program) -> Result<(), Failure> {
    let own = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags: Vec<&str> =
        own.lines().find_map(|line| line.strip_prefix("flags")).map(|line| line.split_whitespace().collect()).unwrap_or_default();
    if flags.is_empty() {
        return Ok(());
    }
    let has = |feature: &str| match feature {
        "sse3" => flags.contains(&"pni"),
        "sse4.1" => flags.contains(&"sse4_1"),
        "sse4.2" => flags.contains(&"sse4_2"),
        "lzcnt" => flags.contains(&"abm"),
        other => flags.contains(&other),
    };
    match program.build.features.iter().find(|feature| !has(feature)) {
        Some(feature) => Err(Failure::input(format!(
            "this executable was built for {}, and this processor has no {feature}\nhelp: build it with `--cpu x86-64-v2`",
            program.build.cpu
        ))),
        None => Ok(()),
    }
}

/// Runs training with arguments as the command line has them.
pub fn run_training(program: &Program, code: Code, args: &[String]) -> u8 {
    let args = [String::from("model"), String::from("train")].iter().chain(args).map(std::ffi::OsString::from).collect();
    run(program, code, None, args)
}

/// Standard input has one end.
fn read_stdin_once<'p>(paths: impl IntoIterator<Item = &'p String>) -> Result<(), Failure> {
    if paths.into_iter().filter(|path| *path == "-").count() > 1 {
        return Err(Failure::usage("`-` is given twice, and standard input can be read once\nhelp: name files for the other parts"));
    }
    Ok(())
}

fn train_command(loaded: Loaded<'_>, args: TrainArgs) -> Result<(), Failure> {
    let options = TrainOptions {
        train: args.train,
        valid: args.valid,
        test: args.test,
        out: args.out.or_else(|| args.resume.clone()).unwrap_or_default(),
        epochs: args.epochs,
        threads: threads(args.threads),
        seed: args.seed,
        resume: args.resume,
        warm_start: args.warm_start,
        limit: args.limit,
        quiet: args.json,
    };
    read_stdin_once([&options.train, &options.valid, &options.test].into_iter().flatten())?;
    let pool = train::pool(options.threads)?;
    let quiet = args.json;
    let result = train::train(loaded, &options, &pool, &mut |text| {
        if !quiet {
            say(text);
        }
    })?;
    if args.json { print(&format!("{result}\n")) } else { Ok(()) }
}

fn generation(weights: Option<&[u8]>, named: Option<&Path>) -> Result<Generation, Failure> {
    match (named, weights) {
        (Some(path), _) => open(path, Which::Best),
        (None, Some(bytes)) => Generation::from_bytes(bytes),
        (None, None) => Err(Failure::usage("no weights are named\nhelp: give the folder of a training run: `--weights CKPT`")),
    }
}

fn eval_command(loaded: Loaded<'_>, weights: Option<&[u8]>, args: &EvalArgs, parameters: bool) -> Result<(), Failure> {
    read_stdin_once(&args.data)?;
    let pool = train::pool(threads(args.threads))?;
    let generation = generation(weights, args.weights.as_deref())?;
    let report = report::evaluate(loaded, &generation, &args.data, (args.limit, parameters), &pool)?;
    if args.json {
        let mut result = json!({"spec": loaded.program.name});
        report.add_to(loaded.program, &mut result);
        return print(&format!("{result}\n"));
    }
    let loss = if report.loss.is_nan() { String::new() } else { format!(", loss {:.5}", report.loss) };
    let mut text = format!("{} rows{loss}\n", report.rows);
    report::print_report(loaded.program, &report, &mut |line| text.push_str(&format!("{line}\n")));
    print(&text)
}

fn cohorts_command(loaded: Loaded<'_>, weights: Option<&[u8]>, args: &CohortsArgs) -> Result<(), Failure> {
    let own = &args.measured;
    read_stdin_once(&own.data)?;
    check_output("--html", args.html.as_deref(), &own.data)?;
    let pool = train::pool(threads(own.threads))?;
    let generation = generation(weights, own.weights.as_deref())?;
    let search = Search { prediction: args.prediction.as_deref(), least_share: args.least_share, top: args.top as usize };
    let found = discovery::discover(loaded, &generation, &own.data, own.limit, &search, &pool)?;
    if let Some(path) = &args.html {
        let failed = |error| Failure::input(format!("--html {}: {error}\nhelp: name a file in a folder that is there", path.display()));
        std::fs::write(path, discovery::page(&found, loaded.program)).map_err(failed)?;
    }
    match own.json {
        true => print(&format!("{}\n", found.json(loaded.program))),
        false => print(&discovery::text(&found, loaded.program)),
    }
}

enum OutputFormat {
    Csv,
    Parquet,
}

/// The file to write and its format; none for standard output.
fn output_format(output: Option<&Path>) -> Result<Option<(&Path, OutputFormat)>, Failure> {
    let Some(path) = output.filter(|path| *path != Path::new("-") && *path != Path::new("/dev/stdout")) else {
        return Ok(None);
    };
    match path.extension().and_then(std::ffi::OsStr::to_str).map(str::to_lowercase).as_deref() {
        Some("csv") => Ok(Some((path, OutputFormat::Csv))),
        Some("parquet") => Ok(Some((path, OutputFormat::Parquet))),
        // A device or a pipe has no ending to go by.
        _ if path.exists() && !path.is_file() && !path.is_dir() => Ok(Some((path, OutputFormat::Csv))),
        _ => Err(Failure::usage(format!(
            "--output {}: the name does not say the format\nhelp: name it .csv or .parquet; without --output, csv goes to standard output",
            path.display()
        ))),
    }
}

/// What is written goes over no data that is read.
fn check_output(flag: &str, output: Option<&Path>, data: &[String]) -> Result<(), Failure> {
    let Some(out) = output else { return Ok(()) };
    let real = std::fs::canonicalize(out).ok();
    match data.iter().find(|data| real.is_some() && std::fs::canonicalize(data).ok() == real) {
        Some(data) => Err(Failure::usage(format!("{flag} {data}: this is the data itself\nhelp: write to another file"))),
        None => Ok(()),
    }
}

fn recommend_command(loaded: Loaded<'_>, weights: Option<&[u8]>, args: &RecommendArgs) -> Result<(), Failure> {
    let RowsArgs { data, limit, .. } = &args.rows;
    read_stdin_once(data)?;
    let path = match output_format(args.output.as_deref())? {
        Some((path, OutputFormat::Parquet)) => {
            let text = format!("--output {}: recommendations are written as csv\nhelp: name it .csv", path.display());
            return Err(Failure::usage(text));
        }
        format => format.map(|(path, _)| path),
    };
    check_output("--output", args.output.as_deref(), data)?;
    let pool = train::pool(threads(args.rows.threads))?;
    let generation = generation(weights, args.rows.weights.as_deref())?;
    let found = recommend(loaded, &generation, data, (args.top as usize, *limit), &pool)?;
    write_csv(path, |out| found.write(out))
}

/// Writes to a file, or to standard output, whose reader may go away.
fn write_csv(path: Option<&Path>, write: impl FnOnce(&mut dyn Write) -> csv::Result<()>) -> Result<(), Failure> {
    let cause = |error: csv::Error| match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    };
    let Some(path) = path else {
        return match write(&mut io::stdout().lock()).map_err(cause) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::input(format!("cannot write the result: {error}"))),
            _ => Ok(()),
        };
    };
    let mut file = std::fs::File::create(path).map_err(|error| Failure::io("create", path, &error))?;
    write(&mut file).map_err(|error| Failure::io("write", path, &cause(error)))
}

fn predict_command(loaded: Loaded<'_>, weights: Option<&[u8]>, args: &PredictArgs) -> Result<(), Failure> {
    let RowsArgs { data, limit, .. } = &args.rows;
    read_stdin_once(data)?;
    let format = output_format(args.output.as_deref())?;
    check_output("--output", args.output.as_deref(), data)?;
    let pool = train::pool(threads(args.rows.threads))?;
    let generation = generation(weights, args.rows.weights.as_deref())?;
    let predictions = predict::predict(loaded, &generation, data, (*limit, args.group_by.as_deref()), &pool)?;
    let names: Vec<&str> = {
        let own = loaded.program.predictions.iter().filter(|prediction| prediction.scores_rows());
        own.map(|prediction| prediction.name.as_str()).collect()
    };
    match format {
        Some((path, OutputFormat::Parquet)) => crate::output::write_parquet(path, &names, &predictions),
        other => write_csv(other.map(|(path, _)| path), |out| crate::output::write_csv(out, &names, &predictions)),
    }
}

fn bench_command(loaded: Loaded<'_>, args: &BenchArgs) -> Result<(), Failure> {
    let options = BenchOptions {
        train: args.phase == Phase::Train,
        batch: args.batch as usize,
        threads: args.threads as usize,
        steps: args.steps,
        vocab: args.vocab.clone(),
        profile: args.profile,
    };
    let result = bench::bench(loaded, &options)?;
    if args.json {
        return print(&format!("{result}\n"));
    }
    let figure = |key: &str| result[key].as_f64().unwrap_or(0.0);
    let mut text = format!(
        "{:.0} samples/s; a step of {} takes {:.3} ms (median {:.3}, 99th percentile {:.3}); peak {:.0} MB; started in {:.1} ms\n",
        figure("samples_per_s"),
        options.batch,
        figure("ms_per_step"),
        figure("p50"),
        figure("p99"),
        figure("peak_rss_bytes") / 1e6,
        figure("start_ms")
    );
    if options.profile {
        text += &format!("\n{}", crate::profile::table(&result["profile"]));
    }
    print(&text)
}

fn split_text(program: &Program, split: &Split) -> String {
    let most = match split.take {
        None => String::new(),
        Some(Take::First(most)) => format!(", the first {most}"),
        Some(Take::Last(most)) => format!(", the last {most}"),
    };
    let aligned = split.aligned.map_or(String::new(), |other| format!(", aligned with {}", program.columns[other as usize].name));
    let weighted = split.weighted.as_ref().map_or(String::new(), |sign| format!(", weights behind {sign:?}"));
    let stochastic = split.stochastic.map_or(String::new(), |alpha| format!(", fewer in training by {alpha}"));
    format!("between {:?}{most}{stochastic}{aligned}{weighted}", split.separator)
}

fn encoder_text(program: &Program, encoder: &Encoder) -> String {
    match encoder {
        Encoder::Vocab { min_count: 0 | 1 } => "dictionary".to_owned(),
        Encoder::Vocab { min_count } => format!("dictionary of values seen {min_count} times or more"),
        Encoder::VocabOf(other) => format!("dictionary of {}", program.columns[*other as usize].name),
        Encoder::Hash { buckets, seed: 0 } => format!("hashed to {buckets} rows"),
        Encoder::Hash { buckets, seed } => format!("hashed to {buckets} rows by function {seed}"),
        Encoder::Bucket { bounds } => format!("{} buckets", bounds.len() + 1),
        Encoder::Part { of, part, divisor } => {
            format!("{} by {divisor} of {}", if *part == RowPart::Quotient { "quotient" } else { "remainder" }, encoder_text(program, of))
        }
    }
}

fn info(program: &Program, baked: bool, as_json: bool) -> Result<(), Failure> {
    let parameters: Vec<(String, String)> = program
        .variables
        .iter()
        .filter(|variable| variable.role != Role::Optimizer)
        .map(|variable| {
            let rows = if variable.table.is_some() { "rows, " } else { "" };
            let shape: Vec<String> = variable.shape.iter().map(ToString::to_string).collect();
            (variable.path.clone(), format!("[{rows}{}]", shape.join(", ")))
        })
        .collect();
    let features: Vec<(String, String)> = program
        .columns
        .iter()
        // Of a vector the first number stands for all.
        .filter(|column| !matches!(column.token, Token::Part { at, .. } if at > 0))
        .map(|column| {
            if let Token::Part { count, separator, .. } = &column.token {
                let name = column.name.trim_end_matches("[0]").to_owned();
                return (name, format!("vector of {count} numbers between {separator:?}"));
            }
            let kind = match &column.kind {
                ColumnKind::Label { binary: true } => "label, binary".to_owned(),
                ColumnKind::Label { binary: false } => "label, number".to_owned(),
                ColumnKind::Number(_) => "number".to_owned(),
                ColumnKind::Time => "time".to_owned(),
                ColumnKind::Id { encoder } => format!("id, {}", encoder_text(program, encoder)),
                ColumnKind::Ids { encoder, split, ordered } => {
                    let kind = if *ordered { "sequence of ids" } else { "ids" };
                    format!("{kind} {}, {}", split_text(program, split), encoder_text(program, encoder))
                }
                ColumnKind::Numbers { split, times, .. } => {
                    format!("sequence of {} {}", if *times { "times" } else { "numbers" }, split_text(program, split))
                }
                ColumnKind::Key => "key".to_owned(),
                ColumnKind::Flag { .. } => "condition".to_owned(),
                ColumnKind::Drawn { of, count, drawing, .. } => {
                    let of = &program.columns[*of as usize].name;
                    match drawing {
                        Drawing::Each => format!("{count} rows drawn for each {of}"),
                        Drawing::Shared => format!("{count} rows drawn for each batch"),
                        Drawing::Popularity => format!("{count} rows drawn for each batch, by how frequent each {of} is"),
                        Drawing::Batch => format!("{count} rows drawn of each batch's {of}"),
                    }
                }
            };
            (column.name.clone(), kind)
        })
        .collect();
    if as_json {
        let pairs =
            |pairs: &[(String, String)]| pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<serde_json::Map<_, _>>();
        let result = json!({
            "spec": program.name, "hash": program.hash, "source": program.source, "resolved": program.resolved,
            "features": pairs(&features), "parameters": pairs(&parameters),
            "targets": [program.build.target], "cpu": program.build.cpu, "recc": program.build.version, "weights": baked,
            "kernels": program.kernels.iter().map(|kernel| json!({"name": kernel.name, "bytes": kernel.len})).collect::<Vec<_>>(),
        });
        return print(&format!("{result}\n"));
    }
    let mut text = format!(
        "{}\n  hash     {}\n  built    by recc {} for {} ({})\n  weights  {}\n\n",
        program.name,
        program.hash,
        program.build.version,
        program.build.target,
        program.build.cpu,
        if baked { "built in" } else { "none" }
    );
    let table = |title: &str, pairs: &[(String, String)], text: &mut String| {
        let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        text.push_str(&format!("{title}\n"));
        pairs.iter().for_each(|(name, value)| text.push_str(&format!("  {name:<width$}  {value}\n")));
        text.push('\n');
    };
    table("features", &features, &mut text);
    table("parameters", &parameters, &mut text);
    let kernels: Vec<(String, String)> =
        program.kernels.iter().map(|kernel| (kernel.name.clone(), format!("{} bytes", kernel.len))).collect();
    table("kernels", &kernels, &mut text);
    text.push_str("spec\n");
    program.source.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    print(&text)
}
