//! Binds the installed DPDK: finds it with pkg-config, generates `dpdk_sys` from `csrc/shim.h`,
//! compiles `csrc/shim.c` and links the few DPDK libraries that the binding calls.
//!
//! Without the feature `dpdk` it does nothing and needs neither DPDK nor libclang.
//!
//! Linking is shared: EAL then loads every driver of DPDK's plugin directory by itself, so no
//! driver is named here.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "dpdk")]
    dpdk::bind();
}

#[cfg(feature = "dpdk")]
mod dpdk {
    use std::env;
    use std::path::PathBuf;
    use std::process::{Command, exit};

    const OLDEST: &str = "22.11";

    /// The libraries whose functions `ALLOWED_FUNCTIONS` and `csrc/*.c` name.
    const LIBRARIES: &[&str] = &[
        "rte_eal",
        "rte_ethdev",
        "rte_mbuf",
        "rte_mempool",
        "rte_telemetry",
    ];

    const ALLOWED_FUNCTIONS: &[&str] = &[
        "shim_.*",
        "rte_eal_(init|cleanup|get_runtime_dir|has_hugepages|remote_launch|wait_lcore)",
        "rte_dev_probe",
        "rte_get_(main_lcore|tsc_hz)",
        "rte_lcore_is_enabled",
        "rte_pktmbuf_(pool_create|clone|free_bulk)",
        "rte_mempool_(avail_count|in_use_count|calc_obj_size|free)",
        "rte_malloc_get_socket_stats",
        "rte_socket_id",
        "rte_eth_dev_(adjust_nb_rx_tx_desc|callback_register|callback_unregister|close|configure)",
        "rte_eth_dev_(get_mtu|get_name_by_port|get_port_by_name|info_get|set_mtu|socket_id|start|stop)",
        "rte_eth_(find_next_owned_by|macaddr_get|stats_get)",
        "rte_eth_(rx|tx)_queue_setup",
        "rte_eth_(promiscuous|allmulticast)_enable",
        "rte_telemetry_register_cmd",
        "rte_tel_data_(alloc|free|start_dict|start_array|string)",
        "rte_tel_data_add_(dict_string|dict_container|array_string)",
    ];

    const ALLOWED_CONSTANTS: &[&str] = &[
        "SHIM_.*",
        "RTE_MAX_(LCORE|ETHPORTS)",
        "RTE_ETH_NAME_MAX_LEN",
        "RTE_MEMPOOL_CACHE_MAX_SIZE",
        "RTE_PKTMBUF_HEADROOM",
    ];

    pub fn bind() {
        println!("cargo::rerun-if-changed=csrc/shim.h");
        println!("cargo::rerun-if-changed=csrc/shim.c");

        let library = pkg_config::Config::new()
            .atleast_version(OLDEST)
            .cargo_metadata(false)
            .probe("libdpdk")
            .unwrap_or_else(|error| {
                println!(
                    "cargo::error=DPDK {OLDEST} or newer is needed: install Debian's packages \
                     libdpdk-dev and libclang-dev (or point PKG_CONFIG_PATH at libdpdk.pc). To \
                     build only the modules that need no DPDK, use --no-default-features"
                );
                for line in error
                    .to_string()
                    .lines()
                    .filter(|line| !line.trim().is_empty())
                {
                    println!("cargo::warning={line}");
                }
                exit(1);
            });
        let flags = compiler_flags();

        println!("cargo::rerun-if-changed=csrc/fanout.c");
        println!("cargo::rerun-if-changed=csrc/log.c");
        cc::Build::new()
            .file("csrc/shim.c")
            .file("csrc/fanout.c")
            .file("csrc/log.c")
            .flags(&flags)
            .flag_if_supported("-Wno-unused-parameter")
            // The shim lies on the frame path, in test builds as well.
            .opt_level(3)
            .compile("dpdk_colo_shim");

        // Drivers are loaded at run time and must find the program's own setsockopt (csrc/fanout.c).
        println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol=setsockopt");

        // After the shim, which refers to them: the linker resolves from left to right.
        for path in &library.link_paths {
            println!("cargo::rustc-link-search=native={}", path.display());
        }
        // Until 23.11 the log is a part of EAL.
        let log = library.libs.iter().find(|name| *name == "rte_log");
        for name in LIBRARIES.iter().copied().chain(log.map(String::as_str)) {
            println!("cargo::rustc-link-lib=dylib={name}");
        }

        let mut bindings = bindgen::Builder::default()
            .header("csrc/shim.h")
            .clang_args(&flags)
            .rust_edition(bindgen::RustEdition::Edition2024)
            .use_core()
            .wrap_unsafe_ops(true)
            .derive_debug(false)
            .generate_comments(false)
            .prepend_enum_name(false)
            .opaque_type("rte_mbuf")
            .opaque_type("rte_mempool")
            .allowlist_type("shim_mbuf_(offset|tx_offload)")
            .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
        for function in ALLOWED_FUNCTIONS {
            bindings = bindings.allowlist_function(function);
        }
        for constant in ALLOWED_CONSTANTS {
            bindings = bindings.allowlist_var(constant);
        }
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        if let Err(error) = bindings
            .generate()
            .map_err(|error| error.to_string())
            .and_then(|b| {
                b.write_to_file(out.join("dpdk_sys.rs"))
                    .map_err(|e| e.to_string())
            })
        {
            println!("cargo::error=cannot bind DPDK {}: {error}", library.version);
            exit(1);
        }
    }

    /// All of `pkg-config --cflags`: beside the include paths also `-include rte_config.h` and
    /// `-march`, without which the headers do not compile as the libraries were compiled. The
    /// pkg-config crate hands out only paths and defines.
    fn compiler_flags() -> Vec<String> {
        let program = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
        let output = Command::new(program)
            .args(["--cflags", "libdpdk"])
            .output()
            .expect("pkg-config has just run");
        String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }
}
