//! Entity references: small integers whose `Display` is the textual syntax of the thing they name.
//!
//! Why here: every level refers to the same kinds of things, and a shared vocabulary keeps dumps greppable.

use cranelift_entity::entity_impl;
use serde::{Deserialize, Serialize};

macro_rules! entity {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(u32);
        entity_impl!($name, $prefix);
    };
}

entity!(
    /// A tensor value of one graph function (and of the plan made from it).
    Value, "v"
);
entity!(
    /// A named axis of one graph function, plan or tile program.
    Axis, "ax"
);
entity!(
    /// A symbolic extent or scalar of a module, known only at run time.
    Sym, "s"
);
entity!(
    /// A graph function of a module.
    Func, "fn"
);
entity!(
    /// A tensor that lives at module level: input, weight, state, or a value passed between functions.
    Global, "g"
);
entity!(
    /// A local of a kernel plan: a scalar expression over the axes in scope.
    Local, "t"
);
entity!(
    /// A tile value of a tile program.
    Tile, "tile"
);
entity!(
    /// A buffer parameter of a tile program.
    Param, "p"
);
entity!(
    /// A buffer of a step.
    Buffer, "b"
);
