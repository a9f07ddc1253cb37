//! When the hypothesis is looked at, when rollbacks are played, what is only pretended.

/// `--hypothesis-strategy` of Chaos Toolkit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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

/// What is listed and not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dry {
    Probes,
    Actions,
    Activities,
    Pause,
}

impl Dry {
    pub fn named(name: &str) -> Option<Dry> {
        Some(match name {
            "probes" => Dry::Probes,
            "actions" => Dry::Actions,
            "activities" => Dry::Activities,
            "pause" => Dry::Pause,
            _ => return None,
        })
    }
}
