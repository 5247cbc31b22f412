//! Kubernetes' quantities of memory as bytes.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Suffixes and what they stand for, the longer ones first.
const SUFFIXES: [(&str, f64); 13] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("m", 0.001),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("", 1.0),
];

/// A quantity as a whole number of bytes; `None` when it is none, which the apiserver would refuse.
pub(crate) fn bytes(quantity: &Quantity) -> Option<u64> {
    let text = quantity.0.trim();
    let number = |(suffix, unit): &(&str, f64)| Some(text.strip_suffix(suffix)?.parse::<f64>().ok()? * unit);
    let bytes = SUFFIXES.iter().find_map(number)?;
    (bytes.is_finite() && bytes >= 0.0).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, expected) in [
            ("512Mi", Some(536_870_912)),
            ("1.5Gi", Some(1_610_612_736)),
            ("2G", Some(2_000_000_000)),
            ("128974848", Some(128_974_848)),
            ("1e9", Some(1_000_000_000)),
            ("1000m", Some(1)),
            ("", None),
            ("much", None),
            ("-1", None),
        ] {
            assert_eq!(bytes(&Quantity(text.to_owned())), expected, "{text}");
        }
    }
}
