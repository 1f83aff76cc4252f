//! The reference policy: the policy as it is at the first step of the run.
//!
//! Where the run began with a fresh adapter (one that changes nothing yet), the reference is the model with that adapter
//! off, which costs no memory. Else it is a frozen copy; values are shared until the first update changes them.

use postgrad_nn::Weight;
use postgrad_nn::decoder::Decoder;

/// The policy at the first step of a run. Make it before anything is trained or restored.
pub struct Reference {
    decoder: Decoder,
    /// The fresh adapter is off, and nothing was copied.
    pub adapter_off: bool,
}

impl Reference {
    pub fn of(decoder: &Decoder) -> Self {
        let mut frozen = decoder.clone();
        let trained_weights = decoder.weights.iter().any(|(_, _, w)| matches!(w, Weight::Trained(_)));
        let fresh: Vec<bool> = decoder.adapters.iter().map(|a| !a.params().is_empty() && changes_nothing(a)).collect();
        let others = decoder.adapters.iter().zip(&fresh).any(|(a, fresh)| !fresh && !a.params().is_empty());
        if !trained_weights && !others {
            let mut keep = fresh.iter().map(|fresh| !fresh);
            frozen.adapters.retain(|_| keep.next().unwrap_or(true));
            return Self { decoder: frozen, adapter_off: true };
        }
        frozen.weights.train(|_| false);
        for adapter in &mut frozen.adapters {
            adapter.set_trained(&decoder.weights, false);
        }
        Self { decoder: frozen, adapter_off: false }
    }

    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }
}

/// B is zero in every module, so that the adapter adds exactly nothing.
fn changes_nothing(adapter: &postgrad_nn::adapter::Adapter) -> bool {
    adapter.modules.values().all(|m| m.b.tensor().data().iter().all(|x| *x == 0.0))
}
