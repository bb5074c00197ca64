//! Charts as inline SVG.
//!
//! Charts are drawn in the colours of the light scheme, as attributes. The style sheet of the page replaces each of these
//! attributes by the colour of the scheme in use (`[fill="#2A78D6"] { fill: var(--s1) }`). A chart therefore follows the
//! page into the dark scheme, and is still right when it is copied out of the page. A chart has no text but the labels of
//! its axes: legends and captions are HTML, which wraps and which screen readers read.

mod canvas;
mod figure;
mod lease_span;
mod lengths;
mod memory;
mod palette;
mod series;
mod throughput;
mod time;
mod timeline;

pub use self::{
    figure::Figure, lengths::lengths, memory::memory, series::Series, throughput::throughput, timeline::timeline,
};
