//! `keygen`, `issue`, `show`: the vendor's commands.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, ensure};
use license_proxy::decide::instant;
use license_proxy::issue::{SigningKey, generate};
use license_proxy::license::{AUDIENCE, Claims};
use license_proxy::service::now_ms;
use license_proxy::token::verify;

use crate::config::{IssueArgs, KeygenArgs, ServeArgs, ShowArgs};

const DAY_MS: f64 = 86_400_000.0;

pub(crate) fn keygen(args: &KeygenArgs) -> anyhow::Result<()> {
    let key = generate(&args.name)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.out)
        .with_context(|| format!("failed to create {}", args.out.display()))?;
    file.write_all(key.to_pem()?.as_bytes())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "secret key: {} (keep it away from every deployment)", args.out.display())?;
    writeln!(out, "LICENSE_TRUSTED_KEYS={}", key.trusted())?;
    Ok(())
}

pub(crate) fn issue(args: &IssueArgs) -> anyhow::Result<()> {
    ensure!(args.days.is_finite() && args.days > 0.0, "failed to issue a license of {} days", args.days);
    let pem = fs::read_to_string(&args.key)
        .with_context(|| format!("failed to read the signing key {}", args.key.display()))?;
    let key = SigningKey::from_pem(&args.key_name, &pem)?;
    let now_ms = now_ms();
    let start_ms = args.not_before.map_or(now_ms, |time| time.as_millisecond().max(0) as u64);
    let claims = Claims {
        iss: args.issuer.clone(),
        aud: AUDIENCE.to_owned(),
        sub: args.customer.clone(),
        jti: args.id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
        iat: now_ms / 1000,
        nbf: Some(start_ms / 1000),
        exp: (start_ms + (args.days * DAY_MS) as u64).div_ceil(1000),
        features: args.features.clone(),
        max_streams: args.max_streams,
        hosts: args.hosts.clone(),
    };
    writeln!(std::io::stdout(), "{}", key.sign(&claims)?)?;
    Ok(())
}

pub(crate) fn show(args: &ShowArgs, serve: &ServeArgs) -> anyhow::Result<()> {
    let text =
        fs::read_to_string(&args.file).with_context(|| format!("failed to read {}", args.file.display()))?;
    let license = verify(&text, &serve.keys()?)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string_pretty(&license.claims)?)?;
    writeln!(out, "valid from {} to {}", instant(license.starts_ms()), instant(license.ends_ms()))?;
    if license.development {
        writeln!(out, "signed with the development key: valid on localhost only")?;
    }
    Ok(())
}
