//! A lease: one model has the devices to itself, from before it is loaded until after it is gone, and that is on
//! record.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crds::summary::{LeaseEvent, MitigationEvent, Sample};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Devices, Locked};
use crate::{error::Result, interrupt::Interrupt, resident::Resident};

/// What is on record about leases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// Who held the device.
    pub leases: Vec<LeaseEvent>,
    /// What was done about pressure on memory.
    pub mitigations: Vec<MitigationEvent>,
    /// How fast the passes were.
    pub samples: Vec<Sample>,
}

/// Where leases are put on record.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Trace>);

impl Ledger {
    /// What is on record, to add to it.
    pub fn open(&self) -> MutexGuard<'_, Trace> {
        // Whole entries are added, whatever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is on record.
    pub fn into_trace(self) -> Trace {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who holds a lease.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// `dense`, `sparse` or `rerank`.
    pub stage: &'static str,
    /// The model.
    pub model: &'a str,
    /// The shard; none in the finalize stage.
    pub shard: Option<u32>,
}

/// A lease of all devices of the process. Whoever holds it drops its model before it; with the lease the devices are
/// given back, also when the pass has failed.
#[must_use = "the devices are given back when the lease is dropped"]
pub struct Lease<'a> {
    holder: Holder<'a>,
    devices: &'a Devices,
    resident: &'a Resident,
    ledger: &'a Ledger,
    locks: Vec<Locked>,
    acquired_at: Timestamp,
    /// Per device.
    bytes: Vec<Bytes>,
}

/// Memory in use on a device.
#[derive(Clone, Copy, Debug)]
struct Bytes {
    before: u64,
    peak: u64,
}

impl<'a> Lease<'a> {
    /// Takes the devices, waiting for other processes that have them. Models that stay between their turns stay.
    ///
    /// # Errors
    /// If another process keeps a device for too long, or this one is told to stop.
    pub fn acquire(
        holder: Holder<'a>,
        devices: &'a Devices,
        resident: &'a Resident,
        ledger: &'a Ledger,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let locks = devices.lock(interrupt)?;
        let acquired_at = Timestamp::now();
        let before = devices.iter().map(|device| {
            device.memory.trim();
            device.memory.look_for_others();
            let used = device.memory.used();
            tracing::debug!(
                stage = holder.stage,
                model = holder.model,
                shard = holder.shard,
                device = device.name,
                used,
                "lease acquired"
            );
            Bytes { before: used, peak: used }
        });
        let bytes = before.collect();
        Ok(Self { holder, devices, resident, ledger, locks, acquired_at, bytes })
    }

    /// The devices.
    pub fn devices(&self) -> &'a Devices {
        self.devices
    }

    /// Who holds it.
    pub fn holder(&self) -> Holder<'a> {
        self.holder
    }

    /// Where it is put on record.
    pub fn ledger(&self) -> &'a Ledger {
        self.ledger
    }

    /// So much was in use on a device, by its index.
    pub fn saw(&mut self, device: usize, bytes: u64) {
        if let Some(seen) = self.bytes.get_mut(device) {
            seen.peak = seen.peak.max(bytes);
        }
    }

    /// Samples what is in use on all devices; the answer is the largest.
    pub fn sample(&mut self) -> u64 {
        let used: Vec<u64> = self.devices.iter().map(|device| device.memory.used()).collect();
        used.iter().enumerate().for_each(|(device, bytes)| self.saw(device, *bytes));
        used.into_iter().max().unwrap_or(0)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        for device in self.devices.iter() {
            // What nobody uses is no reason to let models go.
            device.memory.trim();
            self.resident.relieve(&device.memory);
        }
        let released_at = Timestamp::now().to_string();
        let mut trace = self.ledger.open();
        for (device, bytes) in self.devices.iter().zip(&self.bytes) {
            device.memory.trim();
            let after = device.memory.used();
            tracing::debug!(
                stage = self.holder.stage,
                model = self.holder.model,
                shard = self.holder.shard,
                device = device.name,
                used = after,
                peak = bytes.peak,
                "lease released"
            );
            trace.leases.push(LeaseEvent {
                shard: self.holder.shard,
                stage: self.holder.stage.into(),
                model: self.holder.model.into(),
                device: device.name.clone(),
                acquired_at: self.acquired_at.to_string(),
                released_at: released_at.clone(),
                bytes_before: bytes.before,
                bytes_peak: bytes.peak.max(after),
                bytes_after: after,
                ceiling_bytes: device.memory.limit(),
                memory_source: device.memory.source().into(),
            });
        }
        if self.resident.keeps() {
            // Its models are still there, and another process would count on their memory.
            self.devices.keep(std::mem::take(&mut self.locks));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use candle_core::Device;
    use crds::memory::MemoryCeiling;

    use super::{
        super::{ComputeDevice, DeviceUse, LockOptions},
        *,
    };
    use crate::{
        error::StageError,
        memory::{Memory, MemorySource},
    };

    /// A device whose allocator gives back what is unused only when it is trimmed.
    #[derive(Debug, Default)]
    struct Pool {
        used: AtomicU64,
        unused: AtomicU64,
        /// Of other processes.
        others: AtomicU64,
    }

    impl Pool {
        fn allocate(&self, bytes: u64) {
            self.used.fetch_add(bytes, Ordering::Relaxed);
        }

        fn free(&self, bytes: u64) {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            self.unused.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    impl MemorySource for Pool {
        fn name(&self) -> &'static str {
            "pool"
        }

        fn used(&self) -> u64 {
            self.held().unwrap_or(0) + self.others.load(Ordering::Relaxed)
        }

        fn held(&self) -> Option<u64> {
            Some(self.used.load(Ordering::Relaxed) + self.unused.load(Ordering::Relaxed))
        }

        fn total(&self) -> Option<u64> {
            Some(1000)
        }

        fn trim(&self) {
            self.unused.store(0, Ordering::Relaxed);
        }
    }

    fn devices(pools: &[Arc<Pool>], locks: LockOptions) -> Devices {
        let device = |(index, pool): (usize, &Arc<Pool>)| {
            let source: Arc<dyn MemorySource> = pool.clone();
            ComputeDevice {
                device: Device::Cpu,
                name: format!("cuda:{index}"),
                memory: Memory::of_device(source, MemoryCeiling::Bytes(500)),
                uuid: Some(format!("GPU-{index}")),
            }
        };
        Devices {
            all: pools.iter().enumerate().map(device).collect(),
            used: DeviceUse {
                requested: "cuda".into(),
                used: "cuda".into(),
                count: pools.len() as u32,
                fallback: None,
            },
            locks,
            kept: Mutex::default(),
        }
    }

    const HOLDER: Holder<'static> = Holder { stage: "dense", model: "minilm", shard: Some(3) };

    /// Locks in a folder of their own, which nobody waits for.
    fn locks() -> (tempfile::TempDir, LockOptions) {
        let folder = tempfile::tempdir().expect("a folder");
        let options = LockOptions { folder: folder.path().to_owned(), wait: std::time::Duration::ZERO };
        (folder, options)
    }

    #[test]
    fn what_the_holder_before_gave_back_is_there_for_the_next_one() {
        let pools = [Arc::new(Pool { others: (3 << 30).into(), ..Pool::default() })];
        let (_folder, locks) = locks();
        let devices = devices(&pools, locks);
        assert_eq!(devices.iter().next().expect("a device").memory.limit(), Some(0), "others have it all");
        pools[0].others.store(0, Ordering::Relaxed);
        let (resident, ledger, interrupt) = (Resident::new(true), Ledger::default(), Interrupt::default());
        let mut lease = Lease::acquire(HOLDER, &devices, &resident, &ledger, &interrupt).expect("a lease");
        pools[0].allocate(200);
        assert_eq!(lease.sample(), 200);
        drop(lease);
        assert_eq!(ledger.into_trace().leases[0].ceiling_bytes, Some(500));
    }

    #[test]
    fn a_lease_records_every_device_also_when_the_pass_fails() {
        let pools = [Arc::new(Pool::default()), Arc::new(Pool::default())];
        for pool in &pools {
            pool.allocate(10);
        }
        // What an earlier pass left is none of this one's.
        pools[0].allocate(90);
        pools[0].free(90);
        let (_folder, locks) = locks();
        let devices = devices(&pools, locks);
        let (resident, ledger, interrupt) = (Resident::new(true), Ledger::default(), Interrupt::default());
        let pass = || -> Result<()> {
            let mut lease = Lease::acquire(HOLDER, &devices, &resident, &ledger, &interrupt)?;
            pools[0].allocate(200);
            pools[1].allocate(100);
            assert_eq!(lease.sample(), 210);
            lease.saw(1, 400);
            pools[0].free(200);
            pools[1].free(100);
            Err(StageError::new(crds::contract::FailureReason::Internal, "the pass fails"))
        };
        pass().expect_err("it fails");
        let trace = ledger.into_trace();
        let facts: Vec<_> = trace
            .leases
            .iter()
            .map(|lease| (lease.device.as_str(), lease.bytes_before, lease.bytes_peak, lease.bytes_after))
            .collect();
        assert_eq!(facts, [("cuda:0", 10, 210, 10), ("cuda:1", 10, 400, 10)]);
        let lease = &trace.leases[0];
        assert_eq!((lease.stage.as_str(), lease.model.as_str(), lease.shard), ("dense", "minilm", Some(3)));
        assert_eq!((lease.memory_source.as_str(), lease.ceiling_bytes), ("pool", Some(500)));
        assert!(lease.acquired_at <= lease.released_at);
    }

    #[test]
    fn two_processes_do_not_hold_one_device_at_the_same_time() {
        let pools = [Arc::new(Pool::default()), Arc::new(Pool::default())];
        let (_folder, locks) = locks();
        // Each has devices of its own, as two processes would.
        let (one, other) = (devices(&pools, locks.clone()), devices(&pools, locks));
        let (resident, ledger, interrupt) = (Resident::new(true), Ledger::default(), Interrupt::default());
        let acquire = |devices: &Devices| Lease::acquire(HOLDER, devices, &resident, &ledger, &interrupt).map(|_| ());
        let lease = Lease::acquire(HOLDER, &one, &resident, &ledger, &interrupt).expect("free");
        assert_eq!(acquire(&other).expect_err("held").reason, crds::contract::FailureReason::DeviceBusy);
        drop(lease);
        acquire(&other).expect("free again");
        acquire(&one).expect("and again");
    }

    #[test]
    fn where_models_stay_the_device_stays_too() {
        let pools = [Arc::new(Pool::default())];
        let (_folder, locks) = locks();
        let (one, other) = (devices(&pools, locks.clone()), devices(&pools, locks));
        let (resident, ledger, interrupt) = (Resident::new(false), Ledger::default(), Interrupt::default());
        let acquire = |devices: &Devices| Lease::acquire(HOLDER, devices, &resident, &ledger, &interrupt).map(|_| ());
        acquire(&one).expect("free");
        acquire(&other).expect_err("its models are on the device");
        acquire(&one).expect("it is its own");
        drop(one);
        acquire(&other).expect("the process is gone");
    }
}
