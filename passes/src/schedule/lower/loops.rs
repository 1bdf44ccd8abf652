//! Loops over streamed axes, shared by all reductions that are ready.

use super::*;

impl Lower<'_> {
    /// The axis that a local streams, if it does.
    pub(super) fn streams(&self, l: Local) -> Option<Axis> {
        match &self.locals[l].def {
            LocalDef::Reduce { axes, .. } => axes.iter().copied().find(|&a| self.loops(a)),
            LocalDef::Running { axis, .. } | LocalDef::Fold { axis, .. } => Some(*axis),
            LocalDef::Map(_) | LocalDef::Block { .. } => None,
        }
    }

    pub(super) fn reaches(&self, from: Local, to: &BTreeSet<Local>, seen: &mut BTreeSet<Local>) -> bool {
        self.locals[from]
            .def
            .needs()
            .into_iter()
            .any(|n| to.contains(&n) || (seen.insert(n) && self.reaches(n, to, seen)))
    }

    /// Runs loops over `axis` until `wanted` is finished. Every reduction that is ready shares the loop.
    pub(super) fn stream(&mut self, wanted: Local, axis: Axis, env: &Env) -> Result<Tile, PassError> {
        let outer = |s: &Self, l: Local| -> BTreeSet<Axis> {
            s.depends[l]
                .iter()
                .filter_map(|a| env.get(a).copied())
                .filter(|&t| s.p.axes[t].role == Role::Loop)
                .collect()
        };
        let level = outer(self, wanted);
        let home = self.scope_of(&level);
        // Loops that are open inside of the home scope wait while this one is built before them.
        let waiting = self.scopes.split_off(home + 1);
        for _ in 0..=self.locals.len() {
            let unfinished: BTreeSet<Local> = self
                .locals
                .keys()
                .filter(|&l| self.streams(l) == Some(axis))
                .filter(|&l| self.depends[l].iter().all(|a| env.contains_key(a)) && outer(self, l) == level)
                .filter(|&l| self.finished(l, env).is_none())
                .collect();
            if !unfinished.contains(&wanted) {
                break;
            }
            let ready: Vec<Local> = unfinished
                .iter()
                .copied()
                .filter(|&l| !self.reaches(l, &unfinished, &mut BTreeSet::new()))
                .collect();
            // Loops that are being built wait for this one: what needs them cannot be part of it.
            let building: BTreeSet<Local> = self.building.iter().copied().collect();
            let ready: Vec<Local> = ready
                .into_iter()
                .filter(|l| !building.contains(l) && !self.reaches(*l, &building, &mut BTreeSet::new()))
                .collect();
            // What a fold tracks runs in the same loop; at another level it is followed once more.
            let ready: Vec<Local> = ready
                .iter()
                .copied()
                .filter(|&l| match &self.locals[l].def {
                    LocalDef::Fold { tracks, .. } => {
                        tracks.iter().all(|(_, y)| ready.contains(y) || !unfinished.contains(y))
                    }
                    _ => true,
                })
                .collect();
            if ready.is_empty() {
                return Err(PassError::Limit(format!(
                    "kernel `{}` nests several reductions over one axis in an order that one loop nest cannot have; name their axes apart",
                    self.p.name
                )));
            }
            let outer = self.building.len();
            self.building.extend(&ready);
            self.run(&ready, axis, env)?;
            self.building.truncate(outer);
        }
        self.scopes.extend(waiting);
        self.finished(wanted, env).ok_or_else(|| {
            PassError::Bug(format!("a reduction of kernel `{}` was never computed", self.p.name))
        })
    }
}
