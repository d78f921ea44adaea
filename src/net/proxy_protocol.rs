//! Parses the header of the PROXY protocol, versions 1 and 2, in which a proxy names its client before it passes bytes
//! on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Result of parsing the first bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// They may be the beginning of a header: more are needed.
    Partial,
    /// They are no header.
    Absent,
    /// They are a malformed header.
    Invalid,
    /// A header of this number of bytes. What follows belongs to the client.
    Complete(usize, ProxySource),
}

/// The client that a proxy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxySource {
    /// The peer of the connection: the proxy itself (LOCAL), or an unnamed client (UNKNOWN, UNSPEC).
    Peer,
    /// A client at this address.
    Address(SocketAddr),
    /// A client on a unix socket.
    Unix,
}

type Parser = fn(&[u8]) -> ProxyHeader;

/// Parses the first bytes of a connection: all that have arrived, from the first on. Call it again with more after
/// `Partial`.
///
/// A line of version 1 has at most 107 bytes, a header of version 2 at most [`V2_BYTES_MAX`] behind its first 16. TLVs
/// must fill it, and a CRC32C among them must match; their other contents are ignored.
pub fn parse(bytes: &[u8]) -> ProxyHeader {
    let versions: [(&[u8], Parser); 2] = [(V1_SIGNATURE, version_1), (V2_SIGNATURE, version_2)];
    let agrees = |signature: &[u8]| bytes.iter().zip(signature).all(|(byte, expected)| byte == expected);
    match versions.into_iter().find(|(signature, _)| agrees(signature)) {
        None => ProxyHeader::Absent,
        Some((signature, _)) if bytes.len() < signature.len() => ProxyHeader::Partial,
        Some((_, version)) => version(bytes),
    }
}

fn version_1(bytes: &[u8]) -> ProxyHeader {
    let room = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', room) else {
        return if room.len() < V1_BYTES_MAX { ProxyHeader::Partial } else { ProxyHeader::Invalid };
    };
    let line = room[..end].strip_suffix(b"\r").and_then(|line| str::from_utf8(line).ok());
    match line.and_then(source_of_line) {
        Some(source) => ProxyHeader::Complete(end + 1, source),
        None => ProxyHeader::Invalid,
    }
}

fn source_of_line(line: &str) -> Option<ProxySource> {
    let words: Vec<&str> = line.split(' ').collect();
    let (family, source, destination, port, other_port) = match words[..] {
        ["PROXY", "UNKNOWN", ..] => return Some(ProxySource::Peer),
        ["PROXY", family, source, destination, port, other_port] => {
            (family, source, destination, port, other_port)
        }
        _ => return None,
    };
    let address = |text: &str| match family {
        "TCP4" => text.parse().ok().map(IpAddr::V4),
        "TCP6" => text.parse().ok().map(IpAddr::V6),
        _ => None,
    };
    let (source, _) = (address(source)?, address(destination)?);
    let (port, _) = (decimal_port(port)?, decimal_port(other_port)?);
    Some(ProxySource::Address(SocketAddr::new(source, port)))
}

/// A port without leading zeros.
fn decimal_port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

fn version_2(bytes: &[u8]) -> ProxyHeader {
    let Some((&[command, family, high, low], rest)) = bytes[V2_SIGNATURE.len()..].split_first_chunk() else {
        return ProxyHeader::Partial;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_BYTES_MAX || !matches!(command, LOCAL | PROXY) {
        return ProxyHeader::Invalid;
    }
    let Some(payload) = rest.get(..length) else { return ProxyHeader::Partial };
    let whole = &bytes[..V2_FIXED_BYTES + length];
    // LOCAL describes the proxy itself: all of it is ignored, the family included.
    let source =
        if command == LOCAL { Some(ProxySource::Peer) } else { source_of_addresses(family, payload, whole) };
    source.map_or(ProxyHeader::Invalid, |source| ProxyHeader::Complete(whole.len(), source))
}

fn source_of_addresses(family: u8, payload: &[u8], whole: &[u8]) -> Option<ProxySource> {
    let (source, tlvs) = match family {
        UNSPECIFIED => (ProxySource::Peer, payload),
        TCP4 | UDP4 => {
            let (&addresses, tlvs) = payload.split_first_chunk::<12>()?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = addresses;
            (address(Ipv4Addr::new(a, b, c, d).into(), [high, low]), tlvs)
        }
        TCP6 | UDP6 => {
            let (addresses, tlvs) = payload.split_first_chunk::<36>()?;
            let (source, rest) = addresses.split_first_chunk::<16>()?;
            let (_, ports) = rest.split_first_chunk::<16>()?;
            (address(Ipv6Addr::from(*source).into(), *ports.first_chunk()?), tlvs)
        }
        UNIX_STREAM | UNIX_DATAGRAM => (ProxySource::Unix, payload.get(UNIX_BYTES..)?),
        _ => return None,
    };
    are_valid_tlvs(tlvs, whole).then_some(source)
}

fn address(source: IpAddr, port: [u8; 2]) -> ProxySource {
    ProxySource::Address(SocketAddr::new(source, u16::from_be_bytes(port)))
}

/// True if the TLVs at the end of a header fill it, and the checksum among them, if any, matches.
fn are_valid_tlvs(mut tlvs: &[u8], whole: &[u8]) -> bool {
    while let Some((&[kind, high, low], rest)) = tlvs.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (Some(value), Some(next)) = (rest.get(..length), rest.get(length..)) else { return false };
        if kind == CRC32C {
            let at = whole.len() - rest.len();
            let Ok(expected) = value.try_into().map(u32::from_be_bytes) else { return false };
            // It was computed with zeros in its own place.
            let (before, after) = (&whole[..at], &whole[at + length..]);
            if crc32c(before.iter().chain(&[0; 4]).chain(after)) != expected {
                return false;
            }
        }
        tlvs = next;
    }
    tlvs.is_empty()
}

/// The checksum of RFC 3720 §12.1, bit by bit: a connection has at most one header.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    let shifted = |crc: u32| (crc >> 1) ^ (CASTAGNOLI & 0_u32.wrapping_sub(crc & 1));
    !bytes.fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| shifted(crc)))
}

const V1_SIGNATURE: &[u8] = b"PROXY ";
const V1_BYTES_MAX: usize = 107;

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;

/// Most bytes behind the first 16 of a header of version 2: addresses and TLVs, the client's certificate names among
/// them.
pub const V2_BYTES_MAX: usize = 4096;

/// Commands, with the version in front.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// Families, with the protocol behind them.
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const UDP4: u8 = 0x12;
const TCP6: u8 = 0x21;
const UDP6: u8 = 0x22;
const UNIX_STREAM: u8 = 0x31;
const UNIX_DATAGRAM: u8 = 0x32;

/// Two paths of 108 bytes.
const UNIX_BYTES: usize = 216;

const CRC32C: u8 = 0x03;
const CASTAGNOLI: u32 = 0x82F6_3B78;

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> ProxySource {
        ProxySource::Address(address.parse().unwrap())
    }

    fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, payload].concat()
    }

    fn v4() -> Vec<u8> {
        vec![192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80]
    }

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[kind][..], &length, value].concat()
    }

    fn with_crc(payload: &[u8], flip: u8) -> Vec<u8> {
        let mut header = v2(PROXY, TCP4, &[payload, &tlv(CRC32C, &[0; 4]), &tlv(4, b"no-op")].concat());
        let at = header.len() - 4 - 8;
        let crc = crc32c(header.iter());
        header[at..at + 4].copy_from_slice(&crc.to_be_bytes());
        header[at] ^= flip;
        header
    }

    /// The whole header is found, with and without what follows it, and no earlier.
    #[track_caller]
    fn check_whole(header: &[u8], source: ProxySource) {
        let expected = ProxyHeader::Complete(header.len(), source);
        assert_eq!(parse(header), expected, "{header:?}");
        assert_eq!(parse(&[header, b"GET / HTTP/1.1\r\n\r\n"].concat()), expected, "{header:?}");
        for length in 0..header.len() {
            assert_eq!(parse(&header[..length]), ProxyHeader::Partial, "{length} of {header:?}");
        }
    }

    #[test]
    fn a_line_of_version_1_names_the_client() {
        for (line, source) in [
            ("PROXY TCP4 192.0.2.7 10.0.0.1 8080 80", from("192.0.2.7:8080")),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535", from("255.255.255.255:65535")),
            ("PROXY TCP6 2001:db8::7 ::1 0 80", from("[2001:db8::7]:0")),
            ("PROXY UNKNOWN", ProxySource::Peer),
            ("PROXY UNKNOWN ffff::1 whatever it says", ProxySource::Peer),
        ] {
            check_whole(format!("{line}\r\n").as_bytes(), source);
        }
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
        assert_eq!(longest.len(), 107);
        check_whole(longest.as_bytes(), ProxySource::Peer);
    }

    #[test]
    fn a_malformed_line_of_version_1_is_invalid() {
        for line in [
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY tcp4 192.0.2.7 10.0.0.1 8080 80\r\n",
            "PROXY TCP5 192.0.2.7 10.0.0.1 8080 80\r\n",
            "PROXY  TCP4 192.0.2.7 10.0.0.1 8080 80\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 8080 80 \r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 8080 80\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 8080\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 65536 80\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 080 80\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 +80 80\r\n",
            "PROXY TCP4 192.0.2.7 ::1 8080 80\r\n",
            "PROXY TCP4 2001:db8::7 ::1 8080 80\r\n",
            "PROXY TCP6 192.0.2.7 10.0.0.1 8080 80\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 8080 80\r\n",
            "PROXY UNKNOWN\u{fc}\n",
        ] {
            assert_eq!(parse(line.as_bytes()), ProxyHeader::Invalid, "{line:?}");
        }
        assert_eq!(parse(format!("PROXY UNKNOWN {}", "x".repeat(92)).as_bytes()), ProxyHeader::Partial);
        assert_eq!(parse(format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)).as_bytes()), ProxyHeader::Invalid);
    }

    #[test]
    fn a_header_of_version_2_names_the_client() {
        let v6: Vec<u8> = ["2001:db8::7", "::1"]
            .iter()
            .flat_map(|text| text.parse::<Ipv6Addr>().unwrap().octets())
            .chain([0x1f, 0x90, 0, 80])
            .collect();
        for (command, family, payload, source) in [
            (PROXY, TCP4, v4(), from("192.0.2.7:8080")),
            (PROXY, UDP4, v4(), from("192.0.2.7:8080")),
            (PROXY, TCP6, v6.clone(), from("[2001:db8::7]:8080")),
            (PROXY, UDP6, v6, from("[2001:db8::7]:8080")),
            (PROXY, UNIX_STREAM, vec![b'/'; UNIX_BYTES], ProxySource::Unix),
            (PROXY, UNSPECIFIED, vec![], ProxySource::Peer),
            (PROXY, UNSPECIFIED, tlv(5, b"id"), ProxySource::Peer),
            (PROXY, TCP4, [v4(), tlv(2, b"a.example"), tlv(0xe0, &[])].concat(), from("192.0.2.7:8080")),
            (PROXY, TCP4, [v4(), tlv(0xe0, &[7; 3000])].concat(), from("192.0.2.7:8080")),
            (LOCAL, UNSPECIFIED, vec![], ProxySource::Peer),
            (LOCAL, 0xff, vec![1, 2, 3], ProxySource::Peer),
            (LOCAL, TCP4, v4(), ProxySource::Peer),
        ] {
            check_whole(&v2(command, family, &payload), source);
        }
    }

    #[test]
    fn a_malformed_header_of_version_2_is_invalid() {
        for (command, family, payload) in [
            (0x11, TCP4, v4()),
            (0x31, TCP4, v4()),
            (0x22, TCP4, v4()),
            (PROXY, 0x10, v4()),
            (PROXY, 0x13, v4()),
            (PROXY, 0x41, v4()),
            (PROXY, TCP4, v4()[..11].to_vec()),
            (PROXY, TCP6, v4()),
            (PROXY, UNIX_STREAM, vec![0; UNIX_BYTES - 1]),
            (PROXY, TCP4, [v4(), vec![4]].concat()),
            (PROXY, TCP4, [v4(), vec![4, 0, 2, 0]].concat()),
            (PROXY, TCP4, [v4(), tlv(CRC32C, &[0; 3])].concat()),
            (PROXY, TCP4, [v4(), tlv(CRC32C, &[0; 4])].concat()),
            (PROXY, UNSPECIFIED, vec![0; V2_BYTES_MAX + 1]),
        ] {
            assert_eq!(
                parse(&v2(command, family, &payload)),
                ProxyHeader::Invalid,
                "{command} {family} {payload:?}"
            );
        }
    }

    #[test]
    fn a_checksum_is_checked() {
        assert_eq!(crc32c(b"123456789".iter()), 0xE306_9283);
        check_whole(&with_crc(&v4(), 0), from("192.0.2.7:8080"));
        assert_eq!(parse(&with_crc(&v4(), 1)), ProxyHeader::Invalid);
    }

    #[test]
    fn other_bytes_are_no_header() {
        for bytes in
            ["G", "GET / HTTP/1.1\r\n", "PR ", "PROXYX", "POST", "\r\n\r\nGET / HTTP/1.1\r\n", "\n", "\0"]
        {
            assert_eq!(parse(bytes.as_bytes()), ProxyHeader::Absent, "{bytes:?}");
        }
        for bytes in ["", "P", "PROXY", "PROXY ", "\r", "\r\n\r\n"] {
            assert_eq!(parse(bytes.as_bytes()), ProxyHeader::Partial, "{bytes:?}");
        }
    }
}
