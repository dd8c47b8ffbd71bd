//! Commands of DPDK's telemetry socket, answered by Rust closures.
//!
//! A closure returns a JSON tree. DPDK's limits shape what arrives (`rte_telemetry.h`; a string
//! has 127 bytes, an object 256 entries, an array 512, a reply 16 KiB in all; what exceeds them is
//! cut off):
//!
//! | JSON | telemetry |
//! | --- | --- |
//! | string | string; of its bytes, all but printable ASCII become `?` |
//! | object | object, to any depth; of its keys, all but letters, digits, `_` and `/` become `_` |
//! | integer, not negative | unsigned 64-bit integer |
//! | negative integer | integer; below -2^31 a string on DPDK before 23.03 |
//! | other number | string with three decimals: telemetry knows no floating point |
//! | true, false | 1, 0 |
//! | null | left out |
//! | array of unsigned integers, or of strings | array |
//! | any other array | object with the keys 0, 1, 2...: arrays hold no objects |
//!
//! The closure runs on the client's telemetry thread, never on a poll core.

use std::collections::{BTreeMap, btree_map};
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{self, AssertUnwindSafe};
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use super::dpdk_sys::{self, rte_tel_data};
use super::eal::Eal;
use super::errno::Errno;

/// Why a command cannot be registered.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A path is `/` and then letters, digits, `_` and `/`, at most 55 characters; the help at
    /// most 127.
    #[error("telemetry command {path}: bad path or help text, or no memory: {errno}")]
    Register {
        /// The command.
        path: String,
        /// EINVAL or ENOMEM.
        errno: Errno,
    },
    /// Somebody answers this command already.
    #[error("telemetry command {path} is registered already")]
    Taken {
        /// The command.
        path: String,
    },
    /// A C string cannot carry this byte.
    #[error("telemetry command {path}: zero byte in the path or the help text")]
    ZeroByte {
        /// The command.
        path: String,
    },
}

/// Gets the part of the request behind the comma, or an empty string.
type Handler = dyn Fn(&str) -> Value + Send + Sync;

/// What answers a command. DPDK forgets none.
struct Entry {
    handler: Option<Arc<Handler>>,
    /// The answer without a handler.
    otherwise: Value,
}

/// By path.
static ENTRIES: RwLock<BTreeMap<String, Entry>> = RwLock::new(BTreeMap::new());

/// A registered command. Once it is dropped, the command answers as before.
pub struct TelemetryCommand {
    path: String,
}

/// Answers the command `path` with `otherwise` while nothing else is registered for it. To be called before EAL
/// starts: its socket answers from then on, and says null for a command that it does not know, as for one whose
/// figures are missing.
pub fn declare(path: &str, help: &str, otherwise: Value) -> Result<(), TelemetryError> {
    entry(
        &mut ENTRIES.write().unwrap_or_else(PoisonError::into_inner),
        path,
        help,
    )?
    .otherwise = otherwise;
    Ok(())
}

/// The entry of a command, which DPDK gets to know where it does not.
fn entry<'a>(
    entries: &'a mut BTreeMap<String, Entry>,
    path: &str,
    help: &str,
) -> Result<&'a mut Entry, TelemetryError> {
    match entries.entry(path.to_owned()) {
        btree_map::Entry::Occupied(known) => Ok(known.into_mut()),
        btree_map::Entry::Vacant(vacant) => {
            let zero_byte = |_| TelemetryError::ZeroByte {
                path: path.to_owned(),
            };
            let c_path = CString::new(path).map_err(zero_byte)?;
            let c_help = CString::new(help).map_err(zero_byte)?;
            // SAFETY: DPDK copies both strings and keeps the function. Its own libraries register theirs before EAL
            // starts as well.
            let ret = unsafe {
                dpdk_sys::rte_telemetry_register_cmd(
                    c_path.as_ptr(),
                    Some(on_request),
                    c_help.as_ptr(),
                )
            };
            Errno::check(ret).map_err(|errno| TelemetryError::Register {
                path: path.to_owned(),
                errno,
            })?;
            Ok(vacant.insert(Entry {
                handler: None,
                otherwise: Value::Null,
            }))
        }
    }
}

/// Answers the command `path` (such as `/colo/stats`) with what `handler` returns.
pub fn register(
    _eal: &Eal,
    path: &str,
    help: &str,
    handler: impl Fn(&str) -> Value + Send + Sync + 'static,
) -> Result<TelemetryCommand, TelemetryError> {
    let mut entries = ENTRIES.write().unwrap_or_else(PoisonError::into_inner);
    let entry = entry(&mut entries, path, help)?;
    if entry.handler.is_some() {
        return Err(TelemetryError::Taken {
            path: path.to_owned(),
        });
    }
    entry.handler = Some(Arc::new(handler));
    Ok(TelemetryCommand {
        path: path.to_owned(),
    })
}

impl Drop for TelemetryCommand {
    fn drop(&mut self) {
        let mut entries = ENTRIES.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&self.path) {
            entry.handler = None;
        }
    }
}

/// DPDK's callback for all commands: it passes no pointer of ours, only the path.
unsafe extern "C" fn on_request(
    path: *const c_char,
    parameters: *const c_char,
    reply: *mut rte_tel_data,
) -> c_int {
    let text = |s: *const c_char| {
        if s.is_null() {
            return String::new();
        }
        // SAFETY: DPDK passes null or a terminated string that outlives the call.
        unsafe { CStr::from_ptr(s) }.to_string_lossy().into_owned()
    };
    let (path, parameters) = (text(path), text(parameters));
    let known = ENTRIES
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&path)
        .map(|entry| (entry.handler.clone(), entry.otherwise.clone()));
    let (Some((handler, otherwise)), Some(reply)) = (known, NonNull::new(reply)) else {
        return -1;
    };
    let answer = match handler {
        None => otherwise,
        Some(handler) => {
            let Ok(answer) = panic::catch_unwind(AssertUnwindSafe(|| handler(&parameters))) else {
                return -1;
            };
            answer
        }
    };
    if answer.is_null() {
        // DPDK then says null.
        return -1;
    }
    // From here on no failure is reported: DPDK would not free what is attached already.
    Node(reply).answer(&answer);
    0
}

/// A telemetry value that is being filled: the reply itself, or a container attached to it.
struct Node(NonNull<rte_tel_data>);

impl Node {
    fn answer(&self, value: &Value) {
        if !self.start(value) {
            let text = match value {
                Value::String(s) => c_string(s),
                other => c_string(&other.to_string()),
            };
            // SAFETY: the node is valid during the callback, the text a C string that is copied.
            unsafe { dpdk_sys::rte_tel_data_string(self.as_ptr(), text.as_ptr()) };
        }
        self.fill(value);
    }

    fn as_ptr(&self) -> *mut rte_tel_data {
        self.0.as_ptr()
    }

    /// Makes it an object or an array; `false` for values that are neither.
    fn start(&self, value: &Value) -> bool {
        // SAFETY: the node is valid during the callback, here and below; 0 is the value of
        // RTE_TEL_STRING_VAL in all versions.
        unsafe {
            match value {
                Value::Array(items) if all_unsigned(items) => {
                    dpdk_sys::shim_tel_start_uint_array(self.as_ptr());
                }
                Value::Array(items) if items.iter().all(Value::is_string) => {
                    dpdk_sys::rte_tel_data_start_array(self.as_ptr(), dpdk_sys::RTE_TEL_STRING_VAL);
                }
                Value::Array(_) | Value::Object(_) => {
                    dpdk_sys::rte_tel_data_start_dict(self.as_ptr());
                }
                _ => return false,
            }
        }
        true
    }

    fn fill(&self, value: &Value) {
        match value {
            Value::Array(items) if all_unsigned(items) => {
                for item in items.iter().filter_map(Value::as_u64) {
                    // SAFETY: the node is valid during the callback.
                    unsafe { dpdk_sys::shim_tel_array_uint(self.as_ptr(), item) };
                }
            }
            Value::Array(items) if items.iter().all(Value::is_string) => {
                for item in items.iter().filter_map(Value::as_str) {
                    let item = c_string(item);
                    // SAFETY: as above; the string is copied.
                    unsafe {
                        dpdk_sys::rte_tel_data_add_array_string(self.as_ptr(), item.as_ptr())
                    };
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.add(&index.to_string(), item);
                }
            }
            Value::Object(entries) => {
                for (key, item) in entries {
                    self.add(key, item);
                }
            }
            _ => {}
        }
    }

    fn add(&self, key: &str, value: &Value) {
        let key = c_string(&telemetry_key(key));
        match value {
            Value::Null => {}
            Value::Bool(flag) => self.add_unsigned(&key, u64::from(*flag)),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(unsigned), ..) => self.add_unsigned(&key, unsigned),
                (_, Some(signed), _) => self.add_signed(&key, signed),
                (.., Some(float)) => self.add_text(&key, &format!("{float:.3}")),
                _ => self.add_text(&key, &number.to_string()),
            },
            Value::String(text) => self.add_text(&key, text),
            Value::Array(_) | Value::Object(_) => self.add_container(&key, value),
        }
    }

    fn add_unsigned(&self, key: &CStr, value: u64) {
        // SAFETY: the node is valid during the callback, the key a C string that is copied.
        unsafe { dpdk_sys::shim_tel_dict_uint(self.as_ptr(), key.as_ptr(), value) };
    }

    fn add_signed(&self, key: &CStr, value: i64) {
        // SAFETY: as above.
        if unsafe { dpdk_sys::shim_tel_dict_int(self.as_ptr(), key.as_ptr(), value) } < 0 {
            self.add_text(key, &value.to_string());
        }
    }

    fn add_text(&self, key: &CStr, value: &str) {
        let value = c_string(value);
        // SAFETY: as above, for both strings.
        unsafe {
            dpdk_sys::rte_tel_data_add_dict_string(self.as_ptr(), key.as_ptr(), value.as_ptr())
        };
    }

    /// Attaches the container before it fills it, so that DPDK frees it whatever happens.
    fn add_container(&self, key: &CStr, value: &Value) {
        // SAFETY: an allocation.
        let Some(child) = NonNull::new(unsafe { dpdk_sys::rte_tel_data_alloc() }) else {
            return;
        };
        let child = Node(child);
        child.start(value);
        // SAFETY: both nodes are valid; 0: DPDK frees the child once it has written the reply.
        let ret = unsafe {
            dpdk_sys::rte_tel_data_add_dict_container(
                self.as_ptr(),
                key.as_ptr(),
                child.as_ptr(),
                0,
            )
        };
        if ret < 0 {
            // SAFETY: the child was not attached, and nothing is attached to it.
            unsafe { dpdk_sys::rte_tel_data_free(child.as_ptr()) };
            return;
        }
        child.fill(value);
    }
}

fn all_unsigned(items: &[Value]) -> bool {
    !items.is_empty() && items.iter().all(Value::is_u64)
}

/// The key with every character that telemetry refuses replaced.
fn telemetry_key(key: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '/';
    key.chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect()
}

/// The text with `?` for every byte but printable ASCII: DPDK's JSON encoder reads beside its
/// table of escapes for a byte above 127 (`__json_format_str` in `telemetry_json.h`).
fn c_string(text: &str) -> CString {
    let printable = |b| if matches!(b, b' '..=b'~') { b } else { b'?' };
    CString::new(text.bytes().map(printable).collect::<Vec<u8>>()).unwrap_or_default()
}
