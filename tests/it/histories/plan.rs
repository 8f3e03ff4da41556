//! What a history is made of, and how one is made from a seed. Pure: the same seed makes the same history for ever.

use sync_bridge::config::Side;

/// One history: what users, time, faults and the bridge do, in order.
#[derive(Debug, Clone)]
pub struct History {
    pub seed: u64,
    pub setting: Setting,
    pub steps: Vec<Step>,
}

/// What a history runs under.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Position in `WAYS`.
    pub way: usize,
    /// Position in `FOCUSES`: the entities that take part.
    pub focus: usize,
    /// Users may take a unique value that another record of the other side has, or come in twice: rows may end listed.
    pub collisions: bool,
    /// Rows may be deleted for good.
    pub deletes: bool,
    /// Intents are left alone for as long as a page's lease, as if little time passed.
    pub young: bool,
}

/// How the bridge is configured.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub page_rows: u32,
    pub policy: &'static str,
    /// Without an overlap nothing but the horizon catches a late commit; clocks then may not lag.
    pub overlap: bool,
}

pub const WAYS: [Way; 6] = [
    Way { page_rows: 1, policy: "newest", overlap: false },
    Way { page_rows: 2, policy: "newest", overlap: true },
    Way { page_rows: 3, policy: "legacy", overlap: true },
    Way { page_rows: 100, policy: "newest", overlap: false },
    Way { page_rows: 2, policy: "platform", overlap: true },
    Way { page_rows: 4, policy: "manual", overlap: true },
];

pub const FOCUSES: [&[&str]; 5] =
    [&["person"], &["team", "person"], &["note"], &["team", "person", "member"], &["team"]];

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Edit(Edit),
    Insert {
        entity: &'static str,
        side: Side,
        value: u32,
        shift: i32,
    },
    /// The same natural key comes in on both sides.
    InsertBoth {
        entity: &'static str,
        value: u32,
        shift: i32,
    },
    /// A transaction begins: what it commits later is stamped now.
    Begin {
        side: Side,
    },
    /// The oldest open transaction edits and commits.
    Late {
        edit: Edit,
    },
    Delete {
        entity: &'static str,
        side: Side,
        pick: u32,
    },
    /// A row comes again under a key that was deleted.
    Reinsert {
        entity: &'static str,
        side: Side,
        pick: u32,
        value: u32,
    },
    /// Somebody keeps what a table holds.
    Backup {
        entity: &'static str,
        side: Side,
    },
    /// A row is set back to what was kept of it.
    Restore {
        entity: &'static str,
        side: Side,
        pick: u32,
    },
    /// One whole run, with what befalls its pages and what users do between them.
    Run {
        trouble: Vec<(u32, Trouble)>,
    },
    /// A page over rows named by key, as parked rows get; keys that are gone included.
    Keys {
        entity: &'static str,
        side: Side,
        picks: Vec<u32>,
        trouble: Vec<Trouble>,
    },
    /// A page of the past once more.
    Again {
        pick: u32,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    pub entity: &'static str,
    pub side: Side,
    pub pick: u32,
    /// Which of the entity's edits.
    pub what: u32,
    pub value: u32,
    /// How far the stamp lies from now, in seconds.
    pub shift: i32,
}

/// What befalls a page.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// Its worker dies at the n-th fault point; the page is delivered again.
    Crash(u64),
    /// Its future is dropped after so many polls; the page is delivered again.
    Abort(u32),
    /// It stalls at the n-th point where it holds no lock, while others do something.
    Stall(u64, Vec<Step>),
    /// Delivered twice, one after the other.
    Twice,
    /// At the same time as another page of the run (or itself).
    Beside(u32),
    /// Users do something before it.
    Before(Vec<Step>),
}

/// SplitMix64: small, and the same for ever.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: u32) -> u32 {
        (self.next() % u64::from(n.max(1))) as u32
    }

    pub fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    fn side(&mut self) -> Side {
        if self.one_in(2) { Side::Legacy } else { Side::Platform }
    }
}

struct Maker {
    dice: Dice,
    setting: Setting,
    value: u32,
}

/// The history of a seed.
pub fn make(seed: u64) -> History {
    let mut dice = Dice::new(seed);
    let setting = Setting {
        way: dice.below(WAYS.len() as u32) as usize,
        focus: [0, 0, 0, 1, 1, 2, 3, 4][dice.below(8) as usize],
        collisions: dice.one_in(4),
        deletes: dice.one_in(3),
        young: dice.one_in(4),
    };
    let mut maker = Maker { dice, setting, value: 0 };
    let mut steps = Vec::new();
    for _ in 0..1 + maker.dice.below(3) {
        for entity in FOCUSES[setting.focus] {
            steps.push(maker.insert(entity));
        }
    }
    if !maker.dice.one_in(3) {
        steps.push(Step::Run { trouble: Vec::new() });
    }
    for _ in 0..4 + maker.dice.below(12) {
        if setting.deletes && maker.dice.one_in(8) {
            steps.extend(maker.gone_and_back());
        } else {
            steps.push(maker.step());
        }
    }
    History { seed, setting, steps }
}

impl Maker {
    fn entity(&mut self) -> &'static str {
        let entities = FOCUSES[self.setting.focus];
        entities[self.dice.below(entities.len() as u32) as usize]
    }

    fn value(&mut self) -> u32 {
        self.value += 1;
        self.value
    }

    fn shift(&mut self) -> i32 {
        let lag = WAYS[self.setting.way].overlap;
        match self.dice.below(12) {
            0 if lag => -90,
            1 if lag => -5,
            2 if lag => -1,
            3 => 2,
            4 => 600,
            5 if self.dice.one_in(3) => 86_400,
            _ => 0,
        }
    }

    fn insert(&mut self, entity: &'static str) -> Step {
        let (value, shift) = (self.value(), self.shift());
        // The natural key of an earlier record: on the side where it is not known yet, a twin comes in.
        if value > 1 && entity != "team" && !self.setting.deletes && self.dice.one_in(3) {
            return Step::Insert { entity, side: self.dice.side(), value: 1 + self.dice.below(value - 1), shift };
        }
        match self.dice.below(4) {
            0 if entity != "team" => Step::InsertBoth { entity, value, shift },
            _ => Step::Insert { entity, side: self.dice.side(), value, shift },
        }
    }

    fn edit(&mut self) -> Edit {
        Edit {
            entity: self.entity(),
            side: self.dice.side(),
            pick: self.dice.below(4),
            what: self.dice.below(64),
            value: self.value(),
            shift: self.shift(),
        }
    }

    /// What users, and pages on their own, may do at any moment.
    fn deed(&mut self, depth: u32) -> Step {
        match self.dice.below(20) {
            0 | 1 => {
                let entity = self.entity();
                self.insert(entity)
            }
            2 if self.setting.deletes => {
                Step::Delete { entity: self.entity(), side: self.dice.side(), pick: self.dice.below(4) }
            }
            3 if self.setting.deletes => Step::Reinsert {
                entity: self.entity(),
                side: self.dice.side(),
                pick: self.dice.below(4),
                value: self.value(),
            },
            4 | 5 => {
                let trouble = match self.dice.below(4) {
                    0 => vec![Trouble::Crash(1 + u64::from(self.dice.below(20)))],
                    // Not for ever deeper.
                    1 if depth < 2 => vec![self.stall(depth + 1)],
                    _ => Vec::new(),
                };
                self.named(trouble)
            }
            6 => Step::Again { pick: self.dice.below(64) },
            7 => Step::Begin { side: self.dice.side() },
            8 => Step::Late { edit: self.edit() },
            9 => Step::Backup { entity: self.entity(), side: self.dice.side() },
            10 => Step::Restore { entity: self.entity(), side: self.dice.side(), pick: self.dice.below(8) },
            _ => Step::Edit(self.edit()),
        }
    }

    fn deeds(&mut self, most: u32, depth: u32) -> Vec<Step> {
        (0..1 + self.dice.below(most)).map(|_| self.deed(depth)).collect()
    }

    fn named(&mut self, trouble: Vec<Trouble>) -> Step {
        let picks = (0..1 + self.dice.below(3)).map(|_| self.dice.below(6)).collect();
        Step::Keys { entity: self.entity(), side: self.dice.side(), picks, trouble }
    }

    fn stall(&mut self, depth: u32) -> Trouble {
        Trouble::Stall(1 + u64::from(self.dice.below(12)), self.deeds(3, depth))
    }

    /// A record is deleted on both sides, seen gone, and comes back.
    fn gone_and_back(&mut self) -> Vec<Step> {
        let (entity, pick) = (self.entity(), self.dice.below(4));
        let mut steps: Vec<Step> = Side::BOTH.map(|side| Step::Delete { entity, side, pick }).into();
        if !self.dice.one_in(4) {
            let picks = (0..6).collect();
            steps.push(Step::Keys { entity, side: self.dice.side(), picks, trouble: Vec::new() });
        }
        for side in Side::BOTH {
            if !self.dice.one_in(3) {
                steps.push(Step::Reinsert { entity, side, pick: self.dice.below(2), value: self.value() });
            }
        }
        steps
    }

    fn step(&mut self) -> Step {
        if !self.dice.one_in(3) {
            return self.deed(0);
        }
        let trouble = (0..self.dice.below(5)).map(|_| (self.dice.below(4), self.trouble())).collect();
        Step::Run { trouble }
    }

    fn trouble(&mut self) -> Trouble {
        match self.dice.below(12) {
            0..3 => Trouble::Crash(1 + u64::from(self.dice.below(32))),
            3 => Trouble::Abort(self.dice.below(60)),
            4..8 => self.stall(0),
            8 => Trouble::Twice,
            9 => Trouble::Beside(self.dice.below(4)),
            _ => Trouble::Before(self.deeds(2, 1)),
        }
    }
}
