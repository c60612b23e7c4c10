//! Processor levels: what code may use, chosen at build time.

use crate::wide::Width;
use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable as _};

/// A level of the x86-64 architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// SSE 4.2.
    V2,
    /// AVX2 and fused multiply-add.
    V3,
    /// AVX-512.
    V4,
}

const V2: &[(&str, &str)] =
    &[("has_sse3", "sse3"), ("has_ssse3", "ssse3"), ("has_sse41", "sse4.1"), ("has_sse42", "sse4.2"), ("has_popcnt", "popcnt")];
const V3: &[(&str, &str)] =
    &[("has_avx", "avx"), ("has_avx2", "avx2"), ("has_fma", "fma"), ("has_bmi1", "bmi1"), ("has_bmi2", "bmi2"), ("has_lzcnt", "lzcnt")];
const V4: &[(&str, &str)] = &[("has_avx512f", "avx512f"), ("has_avx512dq", "avx512dq"), ("has_avx512vl", "avx512vl")];

impl Level {
    /// All levels, least first.
    pub const ALL: [Level; 3] = [Level::V2, Level::V3, Level::V4];

    /// `x86-64-v3`
    pub fn name(self) -> &'static str {
        match self {
            Level::V2 => "x86-64-v2",
            Level::V3 => "x86-64-v3",
            Level::V4 => "x86-64-v4",
        }
    }

    /// The level of a name; `native` is the highest this machine has.
    pub fn parse(name: &str) -> Option<Level> {
        if name == "native" {
            return Some(Level::native());
        }
        Level::ALL.into_iter().find(|level| level.name() == name)
    }

    /// The highest level this machine has.
    pub fn native() -> Level {
        let has = |features: &[(&str, &str)]| features.iter().all(|(_, name)| machine_has(name));
        if !has(V3) {
            Level::V2
        } else if !has(V4) {
            Level::V3
        } else {
            Level::V4
        }
    }

    fn flags(self) -> Vec<(&'static str, &'static str)> {
        let parts: &[&[(&str, &str)]] = match self {
            Level::V2 => &[V2],
            Level::V3 => &[V2, V3],
            Level::V4 => &[V2, V3, V4],
        };
        parts.concat()
    }

    /// The processor features the code may use, by the system's names.
    pub fn features(self) -> Vec<String> {
        self.flags().into_iter().map(|(_, name)| name.to_owned()).collect()
    }

    /// Whether products and sums may be fused.
    pub fn has_fma(self) -> bool {
        self >= Level::V3
    }

    /// The widest vectors.
    pub(crate) fn width(self) -> Option<Width> {
        match self {
            Level::V2 => None,
            Level::V3 => Some(Width::Ymm),
            Level::V4 => Some(Width::Zmm),
        }
    }

    pub(crate) fn isa(self) -> Result<OwnedTargetIsa, String> {
        let mut shared = settings::builder();
        let set = |builder: &mut settings::Builder, name: &str, value: &str| builder.set(name, value).map_err(|error| error.to_string());
        set(&mut shared, "opt_level", "speed")?;
        set(&mut shared, "is_pic", "false")?;
        // Profilers and debuggers walk frames; unwind tables would need relocations.
        set(&mut shared, "preserve_frame_pointers", "true")?;
        set(&mut shared, "unwind_info", "false")?;
        set(&mut shared, "enable_probestack", "false")?;
        let mut builder = isa::lookup_by_name("x86_64-unknown-linux-gnu").map_err(|error| error.to_string())?;
        for (flag, _) in self.flags() {
            builder.enable(flag).map_err(|error| format!("{flag}: {error}"))?;
        }
        builder.finish(settings::Flags::new(shared)).map_err(|error| error.to_string())
    }
}

/// Whether this machine has a feature, by the name `is_x86_feature_detected` uses.
fn machine_has(feature: &str) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        match feature {
            "sse3" => is_x86_feature_detected!("sse3"),
            "ssse3" => is_x86_feature_detected!("ssse3"),
            "sse4.1" => is_x86_feature_detected!("sse4.1"),
            "sse4.2" => is_x86_feature_detected!("sse4.2"),
            "popcnt" => is_x86_feature_detected!("popcnt"),
            "avx" => is_x86_feature_detected!("avx"),
            "avx2" => is_x86_feature_detected!("avx2"),
            "fma" => is_x86_feature_detected!("fma"),
            "bmi1" => is_x86_feature_detected!("bmi1"),
            "bmi2" => is_x86_feature_detected!("bmi2"),
            "lzcnt" => is_x86_feature_detected!("lzcnt"),
            "avx512f" => is_x86_feature_detected!("avx512f"),
            "avx512dq" => is_x86_feature_detected!("avx512dq"),
            "avx512vl" => is_x86_feature_detected!("avx512vl"),
            _ => false,
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = feature;
        false
    }
}
