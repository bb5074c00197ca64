//! A lease: one model holds the devices alone, from before it is loaded until after it is dropped, and the lease is recorded.

use crds::summary::LeaseEvent;
use jiff::Timestamp;

use super::{DeviceLock, Devices, Ledger, memory::Memory};
use crate::process::{error::Result, interrupt::Interrupt};

/// Models that may stay loaded on the devices between leases.
pub trait ResidentModels {
    /// Whether models stay loaded at all.
    fn keeps(&self) -> bool;

    /// Unloads all models if the memory in use is above the soft limit.
    fn relieve(&self, memory: &Memory);
}

/// The holder of a lease.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// `dense`, `sparse` or `rerank`.
    pub stage: &'static str,
    /// The model.
    pub model: &'a str,
    /// The shard; `None` in the finalize stage.
    pub shard: Option<u32>,
}

/// A lease of all devices of the process. The holder drops its model first; dropping the lease releases the devices, also
/// after a failed pass.
#[must_use = "the devices are released when the lease is dropped"]
pub struct Lease<'a> {
    holder: Holder<'a>,
    devices: &'a Devices,
    models: &'a dyn ResidentModels,
    ledger: &'a Ledger,
    locks: Vec<DeviceLock>,
    acquired_at: Timestamp,
    /// Memory in use, per device.
    bytes: Vec<Bytes>,
}

/// Memory in use on a device.
#[derive(Clone, Copy, Debug)]
struct Bytes {
    before: u64,
    peak: u64,
}

impl<'a> Lease<'a> {
    /// Takes the devices, after waiting for other processes that hold them. Resident models stay loaded.
    ///
    /// # Errors
    /// If another process holds a device for too long, or the process is interrupted.
    pub fn acquire(
        holder: Holder<'a>,
        devices: &'a Devices,
        models: &'a dyn ResidentModels,
        ledger: &'a Ledger,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let locks = devices.lock(interrupt)?;
        let acquired_at = Timestamp::now();
        let before = devices.iter().map(|device| {
            device.memory.trim();
            device.memory.update_others();
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
        Ok(Self { holder, devices, models, ledger, locks, acquired_at, bytes })
    }

    /// The devices.
    pub fn devices(&self) -> &'a Devices {
        self.devices
    }

    /// The holder.
    pub fn holder(&self) -> Holder<'a> {
        self.holder
    }

    /// The record that the lease goes into.
    pub fn ledger(&self) -> &'a Ledger {
        self.ledger
    }

    /// Records that `bytes` were in use on the device with this index.
    pub fn observe(&mut self, device: usize, bytes: u64) {
        if let Some(seen) = self.bytes.get_mut(device) {
            seen.peak = seen.peak.max(bytes);
        }
    }

    /// Samples the memory in use on all devices, in bytes. Returns the largest value.
    pub fn sample(&mut self) -> u64 {
        let used: Vec<u64> = self.devices.iter().map(|device| device.memory.used()).collect();
        used.iter().enumerate().for_each(|(device, bytes)| self.observe(device, *bytes));
        used.into_iter().max().unwrap_or(0)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        for device in self.devices.iter() {
            // Memory that only the allocator holds is no reason to unload models.
            device.memory.trim();
            self.models.relieve(&device.memory);
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
        if self.models.keeps() {
            // The models stay loaded, so another process must not count on their memory.
            self.devices.keep(std::mem::take(&mut self.locks));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    };

    use candle_core::Device;
    use crds::memory::MemoryCeiling;

    use super::{
        super::{ComputeDevice, DeviceUse, LockOptions, memory::MemorySource},
        *,
    };
    use crate::process::error::StageError;

    /// A model cache without models, which keeps the devices locked or not.
    struct Resident {
        keeps: bool,
    }

    impl ResidentModels for Resident {
        fn keeps(&self) -> bool {
            self.keeps
        }

        fn relieve(&self, _: &Memory) {}
    }

    /// A device whose allocator frees unused memory only when it is trimmed.
    #[derive(Debug, Default)]
    struct Pool {
        used: AtomicU64,
        unused: AtomicU64,
        /// Memory of other processes.
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
            held: Mutex::default(),
        }
    }

    const HOLDER: Holder<'static> = Holder { stage: "dense", model: "minilm", shard: Some(3) };

    /// Locks in a temporary folder, without waiting.
    fn locks() -> (tempfile::TempDir, LockOptions) {
        let folder = tempfile::tempdir().expect("a folder");
        let options = LockOptions { folder: folder.path().to_owned(), wait: std::time::Duration::ZERO };
        (folder, options)
    }

    #[test]
    fn memory_that_the_previous_holder_released_is_available_to_the_next() {
        let pools = [Arc::new(Pool { others: (3 << 30).into(), ..Pool::default() })];
        let (_folder, locks) = locks();
        let devices = devices(&pools, locks);
        assert_eq!(devices.iter().next().expect("a device").memory.limit(), Some(0), "other processes use all of it");
        pools[0].others.store(0, Ordering::Relaxed);
        let (resident, ledger, interrupt) = (Resident { keeps: false }, Ledger::default(), Interrupt::default());
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
        // Memory that an earlier pass left does not count for this one.
        pools[0].allocate(90);
        pools[0].free(90);
        let (_folder, locks) = locks();
        let devices = devices(&pools, locks);
        let (resident, ledger, interrupt) = (Resident { keeps: false }, Ledger::default(), Interrupt::default());
        let pass = || -> Result<()> {
            let mut lease = Lease::acquire(HOLDER, &devices, &resident, &ledger, &interrupt)?;
            pools[0].allocate(200);
            pools[1].allocate(100);
            assert_eq!(lease.sample(), 210);
            lease.observe(1, 400);
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
        // Each has its own devices, as two processes would.
        let (first, second) = (devices(&pools, locks.clone()), devices(&pools, locks));
        let (resident, ledger, interrupt) = (Resident { keeps: false }, Ledger::default(), Interrupt::default());
        let acquire = |devices: &Devices| Lease::acquire(HOLDER, devices, &resident, &ledger, &interrupt).map(|_| ());
        let lease = Lease::acquire(HOLDER, &first, &resident, &ledger, &interrupt).expect("free");
        assert_eq!(acquire(&second).expect_err("held").reason, crds::contract::FailureReason::DeviceBusy);
        drop(lease);
        acquire(&second).expect("free again");
        acquire(&first).expect("and again");
    }

    #[test]
    fn resident_models_keep_the_device_locked() {
        let pools = [Arc::new(Pool::default())];
        let (_folder, locks) = locks();
        let (first, second) = (devices(&pools, locks.clone()), devices(&pools, locks));
        let (resident, ledger, interrupt) = (Resident { keeps: true }, Ledger::default(), Interrupt::default());
        let acquire = |devices: &Devices| Lease::acquire(HOLDER, devices, &resident, &ledger, &interrupt).map(|_| ());
        acquire(&first).expect("free");
        acquire(&second).expect_err("its models are on the device");
        acquire(&first).expect("it is its own");
        drop(first);
        acquire(&second).expect("the process is gone");
    }
}
