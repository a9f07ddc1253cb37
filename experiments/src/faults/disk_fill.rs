//! `disk-fill`: space on a filesystem is occupied; the kernel gives it back when the holder's descriptor closes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Compiled, Fault, Mistake, On, Scope};
use crate::effect::{Amount, Effect, HoldSpace};
use crate::inventory::Ability;
use crate::target::Target;
use crate::units::{Percent, Size};

pub struct DiskFill;

/// Enough for a log line and a shell's history, small enough for a test on a small mount.
const RESERVE: Size = Size(16 << 20);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct With {
    /// Occupy this much. Exactly one of `bytes`, `percent` and `leaveFree` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Size>,
    /// Occupy this share of the whole filesystem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
    /// Occupy as much as leaves this free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave_free: Option<Size>,
    /// Always left free, whatever is asked for. Default 16MiB, or `leaveFree` where that is smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<Size>,
}

impl Fault for DiskFill {
    type With = With;
    const NAME: &'static str = "disk-fill";
    const SUMMARY: &'static str = "Occupies space on the filesystem of a directory.";
    const ON: On = On::Path;
    const CAPABILITIES: &'static [&'static str] = &["CAP_DAC_OVERRIDE"];

    fn check(with: &With, _on: &Target) -> Vec<Mistake> {
        let mut mistakes: Vec<_> =
            amount(with.bytes, with.percent, with.leave_free, "leaveFree").err().into_iter().collect();
        if let (Some(free), Some(reserve)) = (with.leave_free, with.reserve)
            && reserve > free
        {
            mistakes.push(Mistake::new(
                "/with/reserve",
                format!(
                    "`reserve` ({reserve}) is more than `leaveFree` ({free}): the fault could never do what it says"
                ),
                format!("leave `reserve` out, or lower it to {free}"),
            ));
        }
        mistakes
    }

    fn compile(with: &With, scope: &Scope<'_>) -> Result<Compiled, String> {
        scope.require(Ability::HoldSpace, "hold disk space")?;
        let path = scope.on.path.clone().ok_or("`on.path` says which filesystem; it is missing")?;
        let amount =
            amount(with.bytes, with.percent, with.leave_free, "leaveFree").map_err(|mistake| mistake.message)?;
        let reserve = with.reserve.unwrap_or_else(|| with.leave_free.map_or(RESERVE, |free| free.min(RESERVE)));
        let effects = scope.everywhere(|_| Effect::HoldSpace(HoldSpace { path: path.clone(), amount, reserve }));
        Ok(Compiled { effects, ..Compiled::default() })
    }
}

/// Exactly one of three ways to say how much.
pub(super) fn amount(
    bytes: Option<Size>,
    percent: Option<Percent>,
    leave: Option<Size>,
    leave_field: &str,
) -> Result<Amount, Mistake> {
    let given = [bytes.map(Amount::Bytes), percent.map(Amount::Percent), leave.map(Amount::LeaveFree)];
    let mut given = given.into_iter().flatten();
    let all = format!("`bytes`, `percent` and `{leave_field}`");
    match (given.next(), given.next()) {
        (Some(Amount::Bytes(Size(0))), None) => Err(Mistake::new("/with/bytes", "zero bytes are no fault", "")),
        (Some(Amount::Percent(share)), None) if share == Percent::ZERO => {
            Err(Mistake::new("/with/percent", "a share of 0% is no fault", ""))
        }
        (Some(amount), None) => Ok(amount),
        (None, _) => {
            Err(Mistake::new("/with", format!("how much is missing: give one of {all}"), "for example `percent: 90%`"))
        }
        (Some(_), Some(_)) => {
            Err(Mistake::new("/with", format!("give exactly one of {all}"), "they would contradict each other"))
        }
    }
}
