//! HoldSpace: blocks of a file without a name (O_TMPFILE + fallocate), freed by the kernel when the descriptor closes.

use std::path::Path;

use squall_experiments::effect::HoldSpace;

use super::tether::{Outcome, Tether};
use super::{Context, Prepared, Presence, Refusal};

pub fn prepare(_effect: &HoldSpace, _context: &Context) -> Result<Prepared, Refusal> {
    Err(Refusal("not built yet".into()))
}

pub fn hold(
    _directory: &Path,
    _bytes: u64,
    _reserve: u64,
    _fallback: &Path,
    _tether: &mut Tether,
) -> anyhow::Result<Outcome> {
    anyhow::bail!("not built yet")
}

pub fn remove(_path: &Path) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}

pub fn observe(_path: &Path) -> Presence {
    Presence::Unknown("not built yet".into())
}
