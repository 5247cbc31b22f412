//! Prints the definition of `SmallestDeployment` as YAML: `cargo run -p crds > crds/generated/smallestdeployments.yaml`.

use std::io::Write as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let yaml = serde_yaml::to_string(&crds::crd())?;
    std::io::stdout().write_all(yaml.as_bytes())?;
    Ok(())
}
