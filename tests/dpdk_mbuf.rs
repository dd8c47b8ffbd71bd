//! Mbufs, pools and bursts: what is shared is not written, and nothing is lost or freed twice.

#![cfg(feature = "dpdk")]

mod dpdk_support;

use std::num::NonZeroU16;

use dpdk_colo::dpdk::{
    Burst, Headers, Mbuf, Memory, Mempool, MempoolConfig, MempoolError, Slices, Transport, mempool,
};
use dpdk_colo::packet::checksum::Sum;
use dpdk_colo::{Frame, Offload};
use dpdk_support::{TestEal, bytes_of, pattern, pool};

/// Gets a pool for frames and one for headers, and leaves both full.
type Test = fn(&Mempool, &Mempool);

#[test]
fn mbufs() {
    let eal = TestEal::start(&["-l", "0", "--no-telemetry"]);
    let frames = pool(&eal, "frames", 511);
    let headers = pool(&eal, "headers", 255);
    assert_eq!((frames.size(), frames.in_use()), (511, 0));

    let tests: [(&str, Test); 12] = [
        ("ends grow and shrink", ends_grow_and_shrink),
        ("long frames are chains", long_frames_are_chains),
        ("shared frames are read-only", shared_frames_are_read_only),
        (
            "a header goes before shared bytes",
            a_header_goes_before_shared_bytes,
        ),
        ("a shared header comes back", a_shared_header_comes_back),
        ("indirect clones", indirect_clones),
        ("slices share a frame's bytes", slices_share_a_frames_bytes),
        (
            "excerpts share a frame's bytes",
            excerpts_share_a_frames_bytes,
        ),
        ("a frame says what is left", a_frame_says_what_is_left),
        ("owners on several threads", owners_on_several_threads),
        ("bursts free what they hold", bursts_free_what_they_hold),
        ("an empty pool says so", an_empty_pool_says_so),
    ];
    for (name, test) in tests {
        println!("{name}");
        test(&frames, &headers);
        assert_eq!(
            (frames.in_use(), headers.in_use()),
            (0, 0),
            "mbufs lost in: {name}"
        );
    }

    pools_fit_the_memory(&eal);
}

fn ends_grow_and_shrink(frames: &Mempool, _: &Mempool) {
    let mut frame = frames.copy_of(b"payload").unwrap();
    assert_eq!((frame.headroom(), frame.segment_count()), (128, 1));
    frame.prepend(3).unwrap().copy_from_slice(b"abc");
    frame.append(2).unwrap().copy_from_slice(b"yz");
    assert_eq!(bytes_of(&frame), b"abcpayloadyz");
    assert!(frame.trim_front(4) && frame.trim_end(3));
    assert_eq!(bytes_of(&frame), b"ayloa");
    frame.head_mut().unwrap()[0] = b'A';
    assert_eq!(frame.head(), b"Ayloa");
    assert!(!frame.has_partial_checksum() && !frame.is_shared());

    assert!(frame.prepend(frame.headroom() + 1).is_none());
    assert!(frame.append(frame.tailroom() + 1).is_none());
    assert!(frame.prepend(1 << 20).is_none() && frame.append(1 << 20).is_none());
    assert!(!frame.trim_front(6) && !frame.trim_end(6) && !frame.trim_end(1 << 20));
    assert_eq!(bytes_of(&frame), b"Ayloa");
    assert!(frame.trim_front(5) && frame.is_empty());
    assert!(frame.prepend(frame.headroom()).is_some());
    assert!(frame.append(frame.tailroom()).is_some());
    assert_eq!(frame.len(), usize::from(mempool::DEFAULT_DATA_ROOM));
}

fn slices_share_a_frames_bytes(frames: &Mempool, headers: &Mempool) {
    let bytes: Vec<u8> = (0..9000u32).map(|n| (n * 7) as u8).collect();
    for step in [1, 700, 2048, 2049, 9000] {
        let mut slices = Slices::new(frames.copy_of(&bytes).unwrap()).unwrap();
        slices.skip(100);
        let (mut all, mut taken) = (Vec::new(), Vec::new());
        while slices.left() > 0 && taken.len() < 100 {
            let n = step.min(slices.left());
            let mut head = headers.alloc().unwrap();
            head.append(2).unwrap().fill(b'h');
            let slice = slices.take(n, headers).unwrap();
            assert_eq!((slice.len(), slice.is_shared()), (n, true));
            let frame = Mbuf::chain(head, slice).ok().unwrap();
            let got = bytes_of(&frame);
            assert_eq!(&got[..2], b"hh");
            all.extend_from_slice(&got[2..]);
            taken.push(frame);
            if headers.available() < 8 {
                taken.clear();
            }
        }
        assert_eq!(all, bytes[100..100 + all.len()]);
        // The bytes live on without the frame.
        drop(slices);
        assert!(frames.in_use() > 0 || taken.is_empty());
    }

    // A pool that is short gives all or nothing.
    let held: Vec<Mbuf> = (1..headers.size()).map_while(|_| headers.alloc()).collect();
    let mut slices = Slices::new(frames.copy_of(&bytes).unwrap()).unwrap();
    assert!(slices.take(4096, headers).is_none());
    assert_eq!(
        (slices.left(), headers.in_use()),
        (9000, headers.size() - 1)
    );
    assert!(slices.take(0, headers).is_none() && slices.take(9001, headers).is_none());
    drop(held);
    assert_eq!(bytes_of(&slices.take(9000, headers).unwrap()), bytes);
}

fn excerpts_share_a_frames_bytes(frames: &Mempool, _: &Mempool) {
    let bytes: Vec<u8> = (0..9000u32).map(|n| (n * 7) as u8).collect();
    let mut frame = frames.copy_of(&bytes).unwrap();
    let lengths = Headers {
        link: 14,
        network: 20,
        transport: 32,
        ipv6: false,
        protocol: Transport::Tcp,
    };
    let left = Offload {
        partial_checksum: true,
        segment: NonZeroU16::new(1448),
    };
    assert!(frame.request(lengths, left));
    let whole = frame.buffers();
    let front = frame.excerpt(66, 66, 4000).unwrap();
    let mut rest = frame.excerpt(66, 4066, 4934).unwrap();
    // The parts own the bytes now.
    drop(frame);
    assert_eq!(bytes_of(&front), bytes[..4066]);
    assert_eq!(bytes_of(&rest), [&bytes[..66], &bytes[4066..]].concat());
    assert_eq!((front.offload(), rest.offload()), (left, left));
    assert!(front.buffers() + rest.buffers() >= frames.in_use() as usize);
    assert!(rest.buffers() > whole / 2);
    // Their headers are their own.
    rest.head_mut().unwrap()[0] ^= 0xff;
    assert_eq!(front.head()[0], bytes[0]);
    // A part of a part, and what there is not.
    let last = rest.excerpt(66, 66 + 4933, 1).unwrap();
    assert_eq!(bytes_of(&last)[66..], bytes[8999..]);
    assert!(rest.excerpt(66, 66, 4935).is_none() && rest.excerpt(67, 66, 1).is_none());
    let bare = rest.excerpt(66, 66, 0).unwrap();
    assert_eq!((bare.len(), bare.head()), (66, &rest.head()[..66]));
}

fn a_frame_says_what_is_left(frames: &Mempool, _: &Mempool) {
    let bytes: Vec<u8> = (0..5001u32).map(|n| (n * 13) as u8).collect();
    let mut frame = frames.copy_of(&bytes).unwrap();
    for (offset, len) in [
        (0, 5001),
        (1, 5000),
        (2040, 20),
        (2047, 2051),
        (5000, 1),
        (7, 0),
    ] {
        let mut sum = Sum::default();
        sum.add(&bytes[offset..offset + len]);
        assert_eq!(
            frame.sum(offset, len),
            Some(sum.folded()),
            "{offset}, {len}"
        );
    }
    assert_eq!(frame.sum(5000, 2), None);

    let headers = Headers {
        link: 18,
        network: 20,
        transport: 32,
        ipv6: false,
        protocol: Transport::Tcp,
    };
    assert_eq!((frame.offload(), frame.buffers()), (Offload::NONE, 3));
    let left = Offload {
        partial_checksum: true,
        segment: NonZeroU16::new(1448),
    };
    assert!(frame.request(headers, left));
    assert_eq!(frame.offload(), left);
    let other = frame.share();
    assert!(!frame.settle() && !frame.request(headers, Offload::NONE));
    assert_eq!(other.offload(), left);
    drop(other);
    assert!(frame.settle());
    assert_eq!(frame.offload(), Offload::NONE);
    let left = Offload {
        partial_checksum: true,
        segment: None,
    };
    assert!(frame.request(headers, left));
    assert_eq!(frame.offload(), left);
    assert!(frame.request(headers, Offload::NONE));
    assert_eq!(frame.offload(), Offload::NONE);
}

fn long_frames_are_chains(frames: &Mempool, _: &Mempool) {
    let bytes: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
    let mut frame = frames.copy_of(&bytes).unwrap();
    assert_eq!(frame.segment_count(), 3);
    assert_eq!(frame.head().len(), 2048);
    assert_eq!(bytes_of(&frame), bytes);
    assert!(frame.trim_end(10));
    frame.append(1).unwrap()[0] = 7;
    assert_eq!(frame.len(), 4991);
    assert_eq!(bytes_of(&frame)[4989..], [bytes[4989], 7]);
    // The last segment has 895 bytes; a trim does not reach into the one before.
    assert!(!frame.trim_end(896));
    assert_eq!(frames.in_use(), 3);
}

fn shared_frames_are_read_only(frames: &Mempool, _: &Mempool) {
    let bytes: Vec<u8> = (0..3000u32).map(|n| n as u8).collect();
    let mut one = frames.copy_of(&bytes).unwrap();
    let mut two = one.share();
    assert_eq!(frames.in_use(), 2, "sharing takes no mbuf");
    assert_eq!(one.head().as_ptr(), two.head().as_ptr());
    assert!(one.is_shared() && two.is_shared());
    assert!(one.head_mut().is_none() && two.head_mut().is_none());
    assert!(one.prepend(1).is_none() && one.append(1).is_none());
    assert!(!one.trim_front(1) && !two.trim_end(1));
    drop(one);
    assert_eq!(bytes_of(&two), bytes);
    assert!(!two.is_shared());
    two.head_mut().unwrap()[0] = 99;
    let three = two.share();
    let four = three.share();
    drop((two, four));
    assert_eq!(three.head()[0], 99);
}

fn a_header_goes_before_shared_bytes(frames: &Mempool, headers: &Mempool) {
    let bytes: Vec<u8> = (0..3000u32).map(|n| (n * 7) as u8).collect();
    for dropped_first in [true, false] {
        let mut data = frames.copy_of(&bytes).unwrap();
        let header = headers.copy_of(b"header").unwrap();
        let mut framed = Mbuf::chain(header, data.share()).map_err(drop).unwrap();
        assert_eq!((framed.segment_count(), framed.len()), (3, 3006));
        assert_eq!(framed.head(), b"header");
        assert_eq!(bytes_of(&framed), [&b"header"[..], &bytes].concat());
        assert!(data.head_mut().is_none(), "the bytes are shared");
        framed.head_mut().unwrap()[0] = b'H';
        framed.prepend(2).unwrap().copy_from_slice(b"::");
        assert!(
            framed.append(1).is_none() && !framed.trim_end(1),
            "the last segment is shared"
        );

        if dropped_first {
            drop(framed);
            assert_eq!((data.segment_count(), data.len()), (2, 3000));
            assert!(data.head_mut().is_some());
            assert_eq!(bytes_of(&data), bytes);
        } else {
            drop(data);
            assert_eq!(bytes_of(&framed), [&b"::Header"[..], &bytes].concat());
            assert!(framed.append(1).is_some());
        }
    }
}

fn a_shared_header_comes_back(frames: &Mempool, headers: &Mempool) {
    let header = headers.copy_of(b"header").unwrap();
    let other = header.share();
    let data = frames.copy_of(b"data").unwrap();
    let Err((header, data)) = Mbuf::chain(header, data) else {
        panic!("a shared header was written to");
    };
    assert_eq!(
        (bytes_of(&header), bytes_of(&data)),
        (b"header".to_vec(), b"data".to_vec())
    );
    drop(other);
    assert!(Mbuf::chain(header, data).is_ok());
    // A frame cannot come behind itself: then its header is shared.
    let data = frames.copy_of(b"data").unwrap();
    let same = data.share();
    assert!(Mbuf::chain(data, same).is_err());
}

fn indirect_clones(frames: &Mempool, headers: &Mempool) {
    let bytes: Vec<u8> = (0..3000u32).map(|n| (n * 3) as u8).collect();
    let mut frame = frames.copy_of(&bytes).unwrap();
    let mut clone = frame.clone_indirect(headers).unwrap();
    assert_eq!((frames.in_use(), headers.in_use()), (2, 2));
    assert!(clone.head_mut().is_none() && frame.head_mut().is_none());
    assert_eq!(bytes_of(&clone), bytes);
    drop(clone);
    assert!(frame.head_mut().is_some());
    clone = frame.clone_indirect(headers).unwrap();
    drop(frame);
    assert_eq!(bytes_of(&clone), bytes);
}

fn owners_on_several_threads(frames: &Mempool, headers: &Mempool) {
    for round in 0..200 {
        let bytes = pattern(round);
        let data = frames.copy_of(&bytes).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let share = data.share();
                let bytes = &bytes;
                scope.spawn(move || {
                    let header = headers.copy_of(b"h").unwrap();
                    let framed = Mbuf::chain(header, share).map_err(drop).unwrap();
                    assert_eq!(bytes_of(&framed)[1..], bytes[..]);
                });
            }
            drop(data);
        });
    }
}

fn bursts_free_what_they_hold(frames: &Mempool, _: &Mempool) {
    let mut burst = Burst::new();
    assert!(frames.alloc_bulk(&mut burst, 30));
    assert!(!frames.alloc_bulk(&mut burst, 3), "there is room for 2");
    for n in 0..2 {
        assert!(burst.push(frames.copy_of(&[n]).unwrap()).is_ok());
    }
    assert!(burst.is_full());
    let extra = burst.push(frames.copy_of(b"extra").unwrap()).unwrap_err();
    assert_eq!((bytes_of(&extra), frames.in_use()), (b"extra".to_vec(), 33));
    drop(extra);
    assert_eq!(bytes_of(&burst.pop().unwrap()), [1]);
    assert_eq!(bytes_of(&burst[30]), [0]);
    assert_eq!((burst.len(), frames.in_use()), (31, 31));

    let mut drain = burst.drain();
    assert_eq!(drain.len(), 31);
    let first = drain.next().unwrap();
    drop(drain);
    assert!(burst.is_empty());
    assert_eq!(frames.in_use(), 1);
    burst.push(first).map_err(drop).unwrap();

    let long = frames.copy_of(&[0; 3000]).unwrap();
    let keep = long.share();
    burst.push(long).map_err(drop).unwrap();
    drop(burst);
    assert_eq!(frames.in_use(), 2, "the shared chain lives on");
    assert_eq!(keep.len(), 3000);
}

fn an_empty_pool_says_so(_: &Mempool, headers: &Mempool) {
    let mut all = Vec::new();
    while let Some(mbuf) = headers.alloc() {
        all.push(mbuf);
    }
    assert_eq!((all.len(), headers.available()), (255, 0));
    let mut burst = Burst::new();
    assert!(!headers.alloc_bulk(&mut burst, 1));
    assert!(headers.copy_of(b"x").is_none() && all[0].clone_indirect(headers).is_none());
    all.truncate(254);
    assert!(
        headers.copy_of(&[0; 3000]).is_none(),
        "one mbuf is too few, and comes back"
    );
    assert!(headers.alloc_bulk(&mut burst, 1));
}

fn pools_fit_the_memory(eal: &TestEal) {
    let config = MempoolConfig {
        name: "large",
        mbufs: 1 << 20,
        cache: mempool::DEFAULT_CACHE,
        data_room: mempool::DEFAULT_DATA_ROOM,
        socket: None,
    };
    // All or none: what the first took is free again when the second does not fit.
    let small = MempoolConfig {
        mbufs: (1 << 12) - 1,
        ..config
    };
    let other = MempoolConfig {
        name: "other",
        ..config
    };
    let before = Memory::of(eal);
    let error = Mempool::all(eal, &[small, other]).map(drop).unwrap_err();
    assert!(error.is_short_of_memory(), "{error}");
    assert_eq!(Memory::of(eal), before);
    let fits = MempoolConfig {
        mbufs: (1 << 11) - 1,
        ..other
    };
    let pools = Mempool::all(eal, &[small, fits]).expect("64 MB hold both");
    let sizes: Vec<u32> = pools.iter().map(Mempool::size).collect();
    assert_eq!(sizes, [4095, 2047]);
    // What is worked out beforehand is what they took, and a little more.
    let taken = before.free - Memory::of(eal).free;
    let cost = mempool::cost(eal, config.data_room).of(4095 + 2047);
    assert!(
        taken <= cost && cost - taken < cost / 5,
        "{taken} of {cost}"
    );

    let again = Mempool::new(
        eal,
        &MempoolConfig {
            mbufs: 15,
            cache: 0,
            ..config
        },
    );
    assert!(
        matches!(again.map(drop), Err(MempoolError::Create { errno, .. }) if errno.raw() == 17)
    );
}
