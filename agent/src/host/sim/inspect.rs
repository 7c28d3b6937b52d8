//! What a test, or a person, may look at and do behind the agent's back. It must never count as an effect.

use std::collections::BTreeMap;

use containarium_proto::{
    node::{Account, Usage},
    spec::Image,
};

use super::{
    Fault, SimHost, SimInstance, image_fingerprint,
    instance::{NETWORK, POOL},
    watch::{self, Change, Watcher},
};
use crate::host::{
    Activity, Instance, Power,
    shape::{Device, Shape},
};

impl SimHost {
    /// Fails at an effect from now on; counting starts at 1 again.
    pub fn plan_fault(&self, fault: Fault) {
        self.faults.plan(fault);
    }

    /// Tells of every change of an instance from now on, in order, while nothing else can change.
    pub fn watch(&self, tell: impl Fn(Change) + Send + Sync + 'static) {
        self.memory().watcher = Watcher::new(tell);
    }

    /// Fails at a certificate from now on, counted apart from all else; counting starts at 1 again.
    pub fn plan_certificate_fault(&self, fault: Fault) {
        self.faults.plan_of_certificates(fault);
    }

    /// Resolves when a planned crash has happened; the agent is to be killed then.
    pub async fn crashed(&self) {
        self.faults.crashed().await;
    }

    /// After a crash and the agent's death: a new agent may use the host. Forgets the fault. True if it had happened.
    #[must_use = "a fault that was not reached ends a crash matrix"]
    pub fn revive(&self) -> bool {
        self.faults.revive()
    }

    /// Instances by name.
    #[must_use]
    pub fn instances_now(&self) -> BTreeMap<String, SimInstance> {
        self.memory().instances.clone()
    }

    /// Our proxy accounts by name.
    #[must_use]
    pub fn accounts_now(&self) -> BTreeMap<String, Account> {
        self.memory().accounts.iter().map(|(name, (_, account))| (name.clone(), account.clone())).collect()
    }

    /// How many instances were ever made.
    #[must_use]
    pub fn creates(&self) -> u32 {
        self.memory().creates
    }

    /// The user stores something in a running container. False if there is none.
    pub fn write(&self, name: &str, data: &str) -> bool {
        watch::told(&mut self.memory(), false, |memory| {
            let running = memory.instances.get_mut(name).filter(|instance| instance.seen.power == Power::Running);
            running.map(|instance| data.clone_into(&mut instance.data)).is_some()
        })
    }

    /// An instance gets so large that an export of it takes this many bytes more.
    ///
    /// # Panics
    /// There is none of that name.
    pub fn grow(&self, name: &str, bytes: usize) {
        self.memory().instances.get_mut(name).expect("an instance that grows").bulk = bytes;
    }

    /// The machine loses its power and boots again: what Incus starts by itself runs, and nothing else does.
    pub fn reboot(&self) {
        for instance in self.memory().instances.values_mut() {
            let autostart = instance.seen.shape.config.get("boot.autostart").is_some_and(|value| value == "true");
            instance.seen.power = if autostart { Power::Running } else { Power::Stopped };
            instance.boots += u32::from(autostart);
        }
    }

    /// Somebody destroys an instance behind the agent's back.
    pub fn lose(&self, name: &str) {
        watch::told(&mut self.memory(), false, |memory| drop(memory.instances.remove(name)));
    }

    /// Puts a stranger's running instance there; gives its id.
    pub fn add_foreign_instance(&self, name: &str) -> String {
        let mut memory = self.memory();
        memory.uuids += 1;
        let uuid = format!("uuid-{}", memory.uuids);
        let unclaimed = Some(uuid.clone());
        let device = |keys: &[(&str, &str)]| -> Device {
            keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let shape = Shape {
            config: device(&[("volatile.uuid", &uuid), ("volatile.base_image", &image_fingerprint().to_string())]),
            devices: [
                ("root".to_owned(), device(&[("type", "disk"), ("path", "/"), ("pool", POOL)])),
                ("eth0".to_owned(), device(&[("type", "nic"), ("name", "eth0"), ("network", NETWORK)])),
            ]
            .into(),
            profiles: Vec::new(),
        };
        let seen = Instance { name: name.to_owned(), power: Power::Running, stamp: None, shape, unclaimed };
        let stranger = SimInstance { boots: 1, ..SimInstance::new(seen, String::new()) };
        watch::told(&mut memory, false, |memory| drop(memory.instances.insert(name.to_owned(), stranger)));
        uuid
    }

    /// Somebody changes an instance behind the agent's back.
    ///
    /// # Panics
    /// There is none of that name.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Instance)) {
        watch::told(&mut self.memory(), false, |memory| {
            change(&mut memory.instances.get_mut(name).expect("an instance to change").seen);
        });
    }

    /// The same of an instance with a stamp, if there is one of that name.
    pub fn tamper_with_ours(&self, name: &str, change: impl FnOnce(&mut Instance)) {
        watch::told(&mut self.memory(), false, |memory| {
            let ours = memory.instances.get_mut(name).filter(|instance| instance.seen.stamp.is_some());
            if let Some(instance) = ours {
                change(&mut instance.seen);
            }
        });
    }

    /// What an instance is now, in the words of the host.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<Shape> {
        self.memory().instances.get(name).map(|instance| instance.seen.shape.clone())
    }

    /// Whether the instances lack the helper that makes their user, as in an image that is not ours.
    pub fn set_helper_missing(&self, missing: bool) {
        self.memory().helper_missing = missing;
    }

    /// Puts a login name there that is not ours.
    pub fn add_foreign_user(&self, name: &str) {
        self.memory().foreign.insert(name.to_owned());
    }

    /// The images it has, and no others.
    pub fn set_images(&self, images: Vec<Image>) {
        self.memory().images = images;
    }

    /// What every container uses.
    pub fn set_usage(&self, usage: Usage) {
        self.memory().usage = usage;
    }

    /// How a container is used from now on, while it runs. One that nobody spoke of is not used at all.
    pub fn set_activity(&self, name: &str, activity: Activity) {
        self.memory().activity.insert(name.to_owned(), activity);
    }

    /// Whether the sshd in the containers answers.
    pub fn set_ssh_answers(&self, answers: bool) {
        self.memory().ssh_answers = answers;
    }

    /// Whether a planned crash has happened.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.faults.is_down()
    }
}
