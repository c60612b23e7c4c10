//! `bench --profile`: what each kernel of a step takes, beside what this machine can do.

use crate::matmul::FUNCTIONS;
use recc_abi::KernelEntry;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Times of all kernels, summed over threads.
pub(crate) struct Profile {
    kernels: Vec<Own>,
}

#[derive(Default)]
struct Own {
    nanoseconds: AtomicU64,
    items: AtomicU64,
}

impl Profile {
    pub(crate) fn new(kernels: usize) -> Self {
        Profile { kernels: (0..kernels).map(|_| Own::default()).collect() }
    }

    /// A kernel worked on some items for some time.
    pub(crate) fn add(&self, kernel: u32, items: usize, time: Duration) {
        if let Some(own) = self.kernels.get(kernel as usize) {
            own.nanoseconds.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
            own.items.fetch_add(items as u64, Ordering::Relaxed);
        }
    }

    /// Figures of each kernel that ran in steps of so many milliseconds of all threads, the slowest first, and what this machine's processor can do, if that is what ran them.
    pub(crate) fn report(&self, entries: &[KernelEntry], (steps, milliseconds): (u64, f64), by_processor: bool) -> Value {
        let limits = by_processor.then(|| Limits::measure(entries.iter().any(|entry| entry.bf16)));
        let total: u64 = self.kernels.iter().map(|own| own.nanoseconds.load(Ordering::Relaxed)).sum();
        let mut rows: Vec<(u64, Value)> = Vec::new();
        for (own, entry) in self.kernels.iter().zip(entries) {
            let (time, items) = (own.nanoseconds.load(Ordering::Relaxed), own.items.load(Ordering::Relaxed) as f64);
            if time == 0 {
                continue;
            }
            let (gflops, gbytes) = (entry.flops * items / time as f64, entry.bytes * items / time as f64);
            // How many entries of a list a kernel went through is not known here: its figures are then of one.
            let mut row = json!({
                "kernel": entry.name, "ms_per_step": time as f64 / 1e6 / steps as f64, "share": time as f64 / total as f64,
                "gflop_per_s": gflops, "gbyte_per_s": gbytes, "at_least": entry.ragged,
            });
            if let Some(limits) = &limits {
                row["share_of_peak"] = json!(gflops / if entry.bf16 { limits.bf16_gflops } else { limits.gflops });
            }
            rows.push((time, row));
        }
        rows.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        let beside = (milliseconds - total as f64 / 1e6 / steps as f64).max(0.0);
        let mut report = json!({"kernels": rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>(), "beside_ms_per_step": beside});
        if let Some(Limits { gflops, bf16_gflops, gbytes }) = limits {
            report["peak_gflop_per_s"] = json!(gflops);
            report["peak_bf16_gflop_per_s"] = json!(bf16_gflops);
            report["copy_gbyte_per_s"] = json!(gbytes);
        }
        report
    }
}

/// A report as a table for people: kernels of less than half a percent are summed up.
pub(crate) fn table(report: &Value) -> String {
    let figure = |row: &Value, key: &str| row[key].as_f64().unwrap_or(0.0);
    let rows = report["kernels"].as_array().map_or(&[][..], Vec::as_slice);
    let (shown, rest): (Vec<&Value>, Vec<&Value>) = rows.iter().partition(|row| figure(row, "share") >= 0.005);
    let width = shown.iter().filter_map(|row| row["kernel"].as_str()).map(str::len).max().unwrap_or(0).max(20);
    let has_peak = !report["peak_gflop_per_s"].is_null();
    let peak = |text: String| if has_peak { format!(" {text:>8}") } else { String::new() };
    let mut out =
        format!("{:<width$} {:>9} {:>6} {:>8}{} {:>7}\n", "kernel", "ms a step", "share", "GFLOP/s", peak("of peak".to_owned()), "GB/s");
    let more = |row: &Value| if row["at_least"] == true { ">" } else { "" };
    for row in shown {
        out += &format!(
            "{:<width$} {:>9.3} {:>5.1}% {:>8}{} {:>7}\n",
            row["kernel"].as_str().unwrap_or_default(),
            figure(row, "ms_per_step"),
            100.0 * figure(row, "share"),
            format!("{}{:.1}", more(row), figure(row, "gflop_per_s")),
            peak(format!("{}{:.1}%", more(row), 100.0 * figure(row, "share_of_peak"))),
            format!("{}{:.1}", more(row), figure(row, "gbyte_per_s")),
        );
    }
    if !rest.is_empty() {
        let sum = |key: &str| rest.iter().map(|row| figure(row, key)).sum::<f64>();
        let name = format!("{} others", rest.len());
        out += &format!("{name:<width$} {:>9.3} {:>5.1}%\n", sum("ms_per_step"), 100.0 * sum("share"));
    }
    // On a device the two overlap.
    if !has_peak {
        return out;
    }
    let beside = "beside the kernels: batches, groupings, waiting";
    out += &format!("{beside:<width$} {:>9.3}\n", figure(report, "beside_ms_per_step"));
    if rows.iter().any(|row| row["at_least"] == true) {
        out += ">: more than that, as lists and tables are counted with one entry\n";
    }
    let bf16 = match report["peak_bf16_gflop_per_s"].as_f64() {
        Some(peak) => format!(", {peak:.0} in bf16"),
        None => String::new(),
    };
    out + &format!(
        "peak: {:.0} GFLOP/s{bf16}, products in the first cache on one thread; memory is copied at {:.1} GB/s\n",
        figure(report, "peak_gflop_per_s"),
        figure(report, "copy_gbyte_per_s"),
    )
}

/// What one thread of this machine can do.
struct Limits {
    gflops: f64,
    /// Not a number where no kernel asks for it.
    bf16_gflops: f64,
    /// Bytes read and written by a copy in memory.
    gbytes: f64,
}

impl Limits {
    fn measure(bf16: bool) -> Limits {
        let product = |bf16: bool| {
            const SIDES: [i64; 3] = [96, 96, 256];
            let [m, n, k] = SIDES;
            let (a, b, mut dst) = (vec![0.5f32; (m * k) as usize], vec![0.5f32; (k * n) as usize], vec![0f32; (m * n) as usize]);
            best(Duration::from_millis(30), || {
                // SAFETY: the vectors hold matrices of these sizes.
                unsafe {
                    (FUNCTIONS.matmul)(
                        &raw const FUNCTIONS,
                        m,
                        n,
                        k,
                        dst.as_mut_ptr(),
                        n,
                        a.as_ptr(),
                        k,
                        1,
                        b.as_ptr().cast(),
                        n,
                        1,
                        0,
                        1,
                        0,
                        0,
                        0,
                        i64::from(bf16),
                        0,
                        std::ptr::null(),
                    );
                }
                2.0 * (m * n * k) as f64
            })
        };
        let from = vec![1u8; 64 << 20];
        let mut to = vec![0u8; 64 << 20];
        let gbytes = best(Duration::from_millis(200), || {
            std::hint::black_box(&mut to).copy_from_slice(std::hint::black_box(&from));
            2.0 * from.len() as f64
        });
        Limits { gflops: product(false), bf16_gflops: if bf16 { product(true) } else { f64::NAN }, gbytes }
    }
}

/// The largest amount of work per nanosecond seen in some time.
fn best(time: Duration, mut work: impl FnMut() -> f64) -> f64 {
    let end = Instant::now() + time;
    let mut found: f64 = 0.0;
    while Instant::now() < end {
        let begin = Instant::now();
        let done = work();
        found = found.max(done / begin.elapsed().as_nanos().max(1) as f64);
    }
    found
}
