//! Schedules on devices: each is uploaded once, and stays for as long as it is among those used last.

use crate::table::Table;
use cubecl::client::Client;
use cubecl::prelude::*;
use cubecl::server::Handle;
use longnet_pattern::Schedule;
use std::sync::{Arc, Mutex};

/// How many are kept, over all devices.
const KEPT: usize = 64;

/// A table and its copy on a device.
#[derive(Debug)]
pub(crate) struct Resident {
    pub table: Table,
    pub words: Handle,
}

/// What a table is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    /// CubeCL does not export the type that says this.
    device: String,
    schedule: Schedule,
    kv_heads: usize,
    q_tile: usize,
    k_tile: usize,
}

/// Those used last come last.
static RESIDENT: Mutex<Vec<(Key, Arc<Resident>)>> = Mutex::new(Vec::new());

impl Resident {
    /// The table of `schedule` on the device of `client`.
    ///
    /// # Errors
    ///
    /// As [`Table::new`].
    pub fn of(
        client: &Client,
        schedule: &Schedule,
        kv_heads: usize,
        [q_tile, k_tile]: [usize; 2],
    ) -> Result<Arc<Self>, String> {
        let key = Key {
            device: format!("{:?}", client.service_id()),
            schedule: schedule.clone(),
            kv_heads,
            q_tile,
            k_tile,
        };
        let lock = || {
            RESIDENT
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
        };
        let mut kept = lock();
        if let Some(at) = kept.iter().position(|(other, _)| *other == key) {
            let found = kept.remove(at);
            kept.push(found.clone());
            return Ok(found.1);
        }
        drop(kept);
        let table = Table::new(schedule, kv_heads, q_tile, k_tile)?;
        let words = client.create_from_slice(u32::as_bytes(&table.words));
        let resident = Arc::new(Self { table, words });
        let mut kept = lock();
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((key, resident.clone()));
        Ok(resident)
    }
}
