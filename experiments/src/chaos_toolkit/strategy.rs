//! When the hypothesis is looked at, when rollbacks are played, what is only pretended.

use serde::{Deserialize, Serialize};

/// `--hypothesis-strategy` of Chaos Toolkit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    #[default]
    Default,
    BeforeMethodOnly,
    AfterMethodOnly,
    DuringMethodOnly,
    Continuously,
    Skip,
}

impl Strategy {
    pub const NAMES: &str = "default, before-method-only, after-method-only, during-method-only, continuously or skip";

    pub fn named(name: &str) -> Option<Strategy> {
        Some(match name {
            "default" => Strategy::Default,
            "before-method-only" => Strategy::BeforeMethodOnly,
            "after-method-only" => Strategy::AfterMethodOnly,
            "during-method-only" => Strategy::DuringMethodOnly,
            "continuously" => Strategy::Continuously,
            "skip" => Strategy::Skip,
            _ => return None,
        })
    }
    pub fn before(self) -> bool {
        matches!(self, Strategy::Default | Strategy::BeforeMethodOnly | Strategy::Continuously)
    }
    pub fn during(self) -> bool {
        matches!(self, Strategy::DuringMethodOnly | Strategy::Continuously)
    }
    pub fn after(self) -> bool {
        matches!(self, Strategy::Default | Strategy::AfterMethodOnly | Strategy::Continuously)
    }
}

/// `--rollback-strategy` of Chaos Toolkit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rollbacks {
    #[default]
    Default,
    Always,
    Never,
    Deviated,
}

impl Rollbacks {
    pub const NAMES: &str = "default, always, never or deviated";

    pub fn named(name: &str) -> Option<Rollbacks> {
        Some(match name {
            "default" => Rollbacks::Default,
            "always" => Rollbacks::Always,
            "never" => Rollbacks::Never,
            "deviated" => Rollbacks::Deviated,
            _ => return None,
        })
    }
}

/// What is listed and not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dry {
    Probes,
    Actions,
    Activities,
    Pause,
}

impl Dry {
    pub const NAMES: &str = "probes, actions, activities or pause";

    pub fn named(name: &str) -> Option<Dry> {
        Some(match name {
            "probes" => Dry::Probes,
            "actions" => Dry::Actions,
            "activities" => Dry::Activities,
            "pause" => Dry::Pause,
            _ => return None,
        })
    }
    pub fn probes(self) -> bool {
        matches!(self, Dry::Probes | Dry::Activities)
    }
    pub fn actions(self) -> bool {
        matches!(self, Dry::Actions | Dry::Activities)
    }
}
