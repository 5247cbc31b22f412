//! Prints what is made from the types: the definition of `SmallestDeployment` as YAML, or with `reference` its fields
//! as Markdown. `make generate` writes both to where they are committed.

use std::io::Write as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = match std::env::args().nth(1).as_deref() {
        None => serde_yaml::to_string(&crds::crd())?,
        Some("reference") => crds::reference(),
        Some(other) => return Err(format!("failed to print {other:?}: there is only \"reference\"").into()),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
