//! Which build this is: version, revision, compiler. Pure; all of it is known when the program is compiled.

use std::fmt;

use serde::Serialize;

/// Identity of the running build, for `--version`, `/health` and the metric `smallest_build_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BuildInfo {
    /// Version of the workspace, such as `0.1.0`.
    pub version: &'static str,
    /// Git revision when the build was told (`SMALLEST_REVISION`), else `unknown`.
    pub revision: &'static str,
    /// Compiler, such as `rustc 1.95.0 (…)`.
    pub rustc: &'static str,
}

/// The running build.
pub fn build_info() -> BuildInfo {
    BuildInfo {
        version: env!("CARGO_PKG_VERSION"),
        revision: option_env!("SMALLEST_REVISION").unwrap_or("unknown"),
        rustc: env!("SMALLEST_RUSTC"),
    }
}

impl fmt::Display for BuildInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (revision {}, {})", self.version, self.revision, self.rustc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_version_and_compiler() {
        let info = build_info();
        assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
        assert!(info.rustc.starts_with("rustc "), "{}", info.rustc);
        assert!(info.to_string().contains(info.version));
    }
}
