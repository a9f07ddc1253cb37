//! Hog: the holder itself burns processors or occupies memory.

use squall_experiments::effect::Hog;

use super::tether::{Outcome, Tether};
use super::{Context, Prepared, Refusal};

pub fn prepare(_effect: &Hog, _context: &Context) -> Result<Prepared, Refusal> {
    Err(Refusal("not built yet".into()))
}

pub fn hold(_hog: &Hog, _bytes: u64, _tether: &mut Tether) -> anyhow::Result<Outcome> {
    anyhow::bail!("not built yet")
}
