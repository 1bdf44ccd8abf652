//! One pass over an axis: a loop that carries the accumulators of all its members.

use super::*;

/// What a member leaves behind after the loop.
struct Outcome {
    local: Local,
    after: Tile,
    /// A reduction within the tile that was put off until after the loop.
    rest: Option<(Reduction, BTreeSet<Axis>)>,
    /// Factors that do not change in the loop.
    outside: Vec<Ex>,
}

/// A loop in the making.
struct Pass {
    axis: Axis,
    t_axis: Axis,
    /// The scope around the loop.
    home: usize,
    carried: Vec<Carried>,
    outcomes: Vec<Outcome>,
    /// For each running local and each fold of this loop: its value before and after the block.
    running: BTreeMap<Local, (Tile, Tile)>,
    /// Named parts of actions, for what was accumulated and for the block.
    parts: BTreeMap<Local, [Tile; 2]>,
}

/// The expression where there is something, and 0 elsewhere. The carried value is 0 itself where there is nothing, so of a
/// product of it only the factor needs the test.
fn unless(nothing: &Ex, e: &Ex, carried: Tile) -> Ex {
    let guard = |e: &Ex| ex::select(nothing.clone(), ex::num(0.0), e.clone());
    match &**e {
        Expr::Binary(Binary::Mul, v, h) if matches!(**v, Expr::Tile(t) if t == carried) => {
            ex::mul(v.clone(), guard(h))
        }
        _ => guard(e),
    }
}

impl Pass {
    fn close(&mut self, local: Local, mut c: Carried, next: Tile) -> &mut Outcome {
        c.next = next;
        self.carried.push(c);
        self.outcomes.push(Outcome { local, after: c.after, rest: None, outside: Vec::new() });
        let last = self.outcomes.len() - 1;
        &mut self.outcomes[last]
    }
}

impl Lower<'_> {
    /// One loop over `axis` that computes all `ready` locals.
    pub(super) fn run(&mut self, ready: &[Local], axis: Axis, env: &Env) -> Result<(), PassError> {
        // A fold that varies with more loops than what it tracks follows that again, in step.
        let mut members = ready.to_vec();
        let mut at = 0;
        while at < members.len() {
            if let LocalDef::Fold { tracks, .. } = &self.locals[members[at]].def {
                let more: Vec<Local> =
                    tracks.iter().map(|&(_, y)| y).filter(|y| !members.contains(y)).collect();
                members.extend(more);
            }
            at += 1;
        }
        members.sort_unstable();
        members.dedup();
        let bound = self.bound[&axis];
        let t_axis = self.axis_for_loop(axis);
        let range = self.range(&members, axis, env)?;
        let mut pass = Pass {
            axis,
            t_axis,
            home: self.scopes.len() - 1,
            carried: Vec::new(),
            outcomes: Vec::new(),
            running: BTreeMap::new(),
            parts: BTreeMap::new(),
        };
        let id = self.next_scope;
        self.next_scope += 1;
        self.scopes.push(Scope { id, axis: Some(t_axis), ops: Vec::new() });
        for &l in &members {
            match self.locals[l].def.clone() {
                LocalDef::Reduce { op, axes, body } => {
                    self.add_reduction(&mut pass, l, op, &axes, &body, env)?
                }
                LocalDef::Running { op, block, .. } => self.add_running(&mut pass, l, op, &block, env)?,
                LocalDef::Fold { .. } | LocalDef::Map(_) | LocalDef::Block { .. } => {}
            }
        }
        // Folds follow what they track.
        for &l in &members {
            if let LocalDef::Fold { .. } = &self.locals[l].def {
                self.add_fold(&mut pass, l, env)?;
            }
        }
        let Some(scope) = self.scopes.pop() else {
            return Err(PassError::Bug("a loop lost its scope".into()));
        };
        self.bound.insert(axis, bound);
        let home = &mut self.scopes[pass.home];
        home.ops.push(Op::Loop { axis: t_axis, range, carried: pass.carried, body: scope.ops });
        let home_id = home.id;
        for Outcome { local, after, rest, outside } in pass.outcomes {
            let mut t = after;
            if let Some((op, over)) = rest {
                t = self.reduce_src(op, &over, t);
            }
            t = self.scale(t, &outside);
            let key = self.key(local, env);
            self.done.insert(key, (t, home_id));
        }
        Ok(())
    }

    /// What the next loop over `axis` runs along. Within a loop over it, what varies with another loop only may need all
    /// its positions again: that loop has an axis of its own, which stands for `axis` while the loop is built.
    fn axis_for_loop(&mut self, axis: Axis) -> Axis {
        let of = self.bound[&axis];
        let open = |t: Axis| self.scopes.iter().any(|s| s.axis == Some(t));
        if !open(of) {
            return of;
        }
        let found = self.again.iter().find(|&&(a, t)| a == axis && !open(t)).map(|&(_, t)| t);
        let t = found.unwrap_or_else(|| {
            let mut again = self.p.axes[of].clone();
            while self.p.axes.values().any(|a| a.name == again.name) {
                again.name.push('_');
            }
            let t = self.p.axes.push(again);
            self.again.push((axis, t));
            t
        });
        self.bound.insert(axis, t);
        t
    }

    fn add_reduction(
        &mut self,
        pass: &mut Pass,
        l: Local,
        op: Reduction,
        axes: &[Axis],
        body: &Ex,
        env: &Env,
    ) -> Result<(), PassError> {
        let (inner, bound) = self.bind(axes, env);
        if op == Reduction::Sum
            && let Some((dot, outside)) = self.contraction(body, &bound, &inner)?
        {
            let axes = self.spans(&dot);
            if outside.iter().all(|e| !self.variance(e).contains(&pass.t_axis)) {
                let c = self.carry(typing::identity(op, self.real), self.real, &axes, pass);
                let next = self.dot(&dot, Some(c.inside));
                pass.close(l, c, next).outside = outside;
            } else {
                let part = self.dot(&dot, None);
                let part = self.scale(part, &outside);
                let axes = self.p.tiles[part].axes.iter().copied().collect();
                let c = self.carry(typing::identity(op, self.real), self.real, &axes, pass);
                let next = self.map(&ex::add(ex::tile(c.inside), ex::tile(part)), None);
                pass.close(l, c, next);
            }
            return Ok(());
        }
        let e = self.lower_ex(body, &inner)?;
        let e = self.masked(&e, &bound, op);
        let mut e = self.hoist(&e);
        let mut spans = self.axes(&e);
        // A body that does not vary along a bound axis counts once per position.
        let missing: Vec<Axis> =
            bound.iter().copied().filter(|a| !spans.contains(a) && self.p.axes[*a].block > 1).collect();
        for &a in &missing {
            if let Some(v) = self.valid(a) {
                let dtype = typing::dtype(&self.p, &e, self.real);
                e = ex::select(v, e, typing::identity(op, dtype));
            }
            spans.insert(a);
        }
        let dtype = match typing::dtype(&self.p, &e, self.real) {
            // Sums of integers are wider than what they add up.
            DType::Bool | DType::I32 if op == Reduction::Sum => DType::I64,
            DType::Bool => DType::I32,
            d => d,
        };
        let elements: u64 = spans.iter().map(|&a| u64::from(self.p.axes[a].block)).product();
        let (part, spans, rest) = if elements <= DEFER {
            let over: BTreeSet<Axis> = bound.intersection(&spans).copied().collect();
            (e, spans, (!over.is_empty()).then_some((op, over)))
        } else {
            let src = self.map_as(&e, Some(&spans), Some(dtype));
            let t = self.reduce_src(op, &bound, src);
            (ex::tile(t), self.p.tiles[t].axes.iter().copied().collect(), None)
        };
        let c = self.carry(typing::identity(op, dtype), dtype, &spans, pass);
        let combined = ex::binary(op.combine(), ex::tile(c.inside), part);
        let next = self.map_as(&combined, Some(&spans), Some(dtype));
        pass.close(l, c, next).rest = rest;
        Ok(())
    }

    fn add_running(
        &mut self,
        pass: &mut Pass,
        l: Local,
        op: Reduction,
        block: &Ex,
        env: &Env,
    ) -> Result<(), PassError> {
        let (inner, _) = self.bind(&[pass.axis], env);
        let e = self.lower_ex(block, &inner)?;
        let t = self.map(&e, None);
        let (dtype, axes) = (self.p.tiles[t].dtype, self.p.tiles[t].axes.iter().copied().collect());
        let c = self.carry(typing::identity(op, dtype), dtype, &axes, pass);
        let combined = ex::binary(op.combine(), ex::tile(c.inside), ex::tile(t));
        let next = self.map_as(&combined, Some(&axes), Some(dtype));
        pass.running.insert(l, (c.inside, next));
        pass.close(l, c, next);
        Ok(())
    }

    fn add_fold(&mut self, pass: &mut Pass, l: Local, env: &Env) -> Result<(), PassError> {
        let LocalDef::Fold { op, block, action, tracks, .. } = self.locals[l].def.clone() else {
            return Err(PassError::Bug("a fold is no fold".into()));
        };
        let (inner, _) = self.bind(&[pass.axis], env);
        let q = self.lower_ex(&block, &inner)?;
        let q = self.map(&q, None);
        let mut axes: BTreeSet<Axis> = self.p.tiles[q].axes.iter().copied().collect();
        let mut followed = Vec::new();
        for &(t, y) in &tracks {
            let Some(&(before, now)) = pass.running.get(&y) else {
                return Err(PassError::Bug("a fold tracks a value that does not run with it".into()));
            };
            let Some(op) = self.locals[y].def.runs() else {
                return Err(PassError::Bug("a fold tracks a value that does not run".into()));
            };
            let own = self.local(t, &inner)?;
            // A block's value may vary with less than what becomes of it.
            axes.extend([own, before, now].iter().flat_map(|&t| self.p.tiles[t].axes.iter().copied()));
            followed.push((t, y, op, own, before, now));
        }
        let dtype = if op == Reduction::Sum { self.real } else { self.p.tiles[q].dtype };
        let c = self.carry(typing::identity(op, dtype), dtype, &axes, pass);
        let mut old: BTreeMap<Local, Ex> = BTreeMap::from([(l, ex::tile(c.inside))]);
        let mut new: BTreeMap<Local, Ex> = BTreeMap::from([(l, ex::tile(q))]);
        let mut fresh = Vec::new();
        for (t, y, op, own, before, now) in followed {
            old.extend([(t, ex::tile(before)), (y, ex::tile(now))]);
            new.extend([(t, ex::tile(own)), (y, ex::tile(now))]);
            fresh.push((op, ex::binary(Binary::Eq, ex::tile(before), ex::num(op.identity()))));
        }
        for part in parts_of_action(&self.locals, l) {
            let tiles = match pass.parts.get(&part) {
                Some(&tiles) => tiles,
                None => {
                    let e = self.locals[part].def.value().clone();
                    let mut of = |at: &BTreeMap<Local, Ex>| -> Result<Tile, PassError> {
                        let e = self.lower_ex(&replace_locals(&e, at), &inner)?;
                        Ok(self.map(&e, None))
                    };
                    let tiles = [of(&old)?, of(&new)?];
                    pass.parts.insert(part, tiles);
                    tiles
                }
            };
            old.insert(part, ex::tile(tiles[0]));
            new.insert(part, ex::tile(tiles[1]));
        }
        let moved = self.lower_ex(&replace_locals(&action, &old), &inner)?;
        let joined = self.lower_ex(&replace_locals(&action, &new), &inner)?;
        // The block's value needs no such guard: the law that brought the action demands that it is finite.
        let moved = match nothing_yet(&fresh) {
            Some(nothing) if op == Reduction::Sum => unless(&nothing, &moved, c.inside),
            _ => moved,
        };
        let next = ex::binary(op.combine(), self.factored(&moved), self.factored(&joined));
        let next = self.map_as(&next, Some(&axes), Some(dtype));
        pass.running.insert(l, (c.inside, next));
        pass.close(l, c, next);
        Ok(())
    }

    /// The second factor of a product as a tile of its own: what moves a value has fewer axes than the value.
    fn factored(&mut self, e: &Ex) -> Ex {
        match &**e {
            Expr::Binary(Binary::Mul, v, h) => {
                let h = self.map_as(h, None, Some(self.real));
                ex::mul(v.clone(), ex::tile(h))
            }
            _ => e.clone(),
        }
    }

    /// A carried tile whose `next` is not known yet; its initial value is emitted before the loop.
    fn carry(&mut self, initial: Ex, dtype: DType, axes: &BTreeSet<Axis>, pass: &Pass) -> Carried {
        let outer: BTreeSet<Axis> = self.scopes[..=pass.home].iter().filter_map(|s| s.axis).collect();
        let initial_tile = self.tile(dtype, axes, outer.clone());
        self.scopes[pass.home].ops.push(Op::Map { out: initial_tile, expr: initial });
        let mut inner = outer.clone();
        inner.insert(pass.t_axis);
        let inside = self.tile(dtype, axes, inner);
        let after = self.tile(dtype, axes, outer);
        Carried { initial: initial_tile, inside, next: inside, after }
    }
}
