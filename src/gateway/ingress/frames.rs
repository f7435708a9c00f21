//! Reads the borders of WebSocket frames (RFC 6455, section 5.2) in bytes that pass by, to tell data from ping and pong
//! and to know when a frame of one's own may be put in between. It keeps no payload.

/// The longest head of a frame: two bytes, eight of length, four of mask.
const HEAD: usize = 14;

/// A close frame with status 1001, "going away", from the server.
pub(super) const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xE9];

/// The same from the client, whose frames are masked; the mask is zero.
pub(super) const GOING_AWAY_MASKED: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE9];

/// One direction of a WebSocket.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; HEAD],
    /// Bytes of the head that are there.
    have: usize,
    /// Bytes of the payload that are to come.
    payload: u64,
    /// The frame whose payload passes is no control frame.
    is_data: bool,
    /// These are no frames: everything counts, and nothing can be put in between.
    is_lost: bool,
}

impl Frames {
    /// Takes in what passes; whether something of it was data.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> bool {
        let mut has_data = false;
        while !bytes.is_empty() && !self.is_lost {
            if self.payload > 0 {
                let here = usize::try_from(self.payload).unwrap_or(usize::MAX);
                let here = here.min(bytes.len());
                has_data |= self.is_data;
                self.payload -= here as u64;
                bytes = &bytes[here..];
                continue;
            }
            self.head[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have >= 2 && self.have == self.head_length() {
                self.begin_payload();
                has_data |= self.is_data;
            }
        }
        has_data || self.is_lost
    }

    /// Whether the last frame has passed whole, so that another one may follow.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0 && self.payload == 0 && !self.is_lost
    }

    fn head_length(&self) -> usize {
        let length = match self.head[1] & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        2 + length + mask
    }

    fn begin_payload(&mut self) {
        let opcode = self.head[0] & 0x0F;
        let short = u64::from(self.head[1] & 0x7F);
        self.payload = match short {
            126 => u64::from(u16::from_be_bytes([self.head[2], self.head[3]])),
            127 => {
                let mut length = [0; 8];
                length.copy_from_slice(&self.head[2..10]);
                u64::from_be_bytes(length)
            }
            short => short,
        };
        let is_control = opcode >= 8;
        self.is_data = !is_control;
        // Opcodes that are not defined, control frames that are too long, lengths beyond 63 bits.
        let is_known = matches!(opcode, 0..=2 | 8..=10);
        self.is_lost = !is_known || is_control && short > 125 || self.payload >> 63 != 0;
        self.have = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        let mask = if masked { 0x80 } else { 0 };
        match length {
            0..=125 => frame.push(mask | u8::try_from(length).unwrap()),
            126..=65_535 => {
                frame.push(mask | 0x7E);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 0x7F);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4].iter().take(if masked { 4 } else { 0 }));
        frame.extend(vec![7; length]);
        frame
    }

    #[test]
    fn ping_and_pong_are_no_data_and_text_is() {
        let mut frames = Frames::default();
        assert!(!frames.pass(&frame(9, 5, true)));
        assert!(!frames.pass(&frame(10, 0, false)));
        assert!(!frames.pass(&frame(8, 2, false)));
        assert!(frames.is_between());
        assert!(frames.pass(&frame(1, 70_000, true)));
        assert!(frames.pass(&frame(2, 0, false)), "an empty message is one");
        assert!(frames.is_between());
        assert!(!Frames::default().pass(&GOING_AWAY));
        assert!(!Frames::default().pass(&GOING_AWAY_MASKED));
    }

    #[test]
    fn what_is_no_frame_counts_and_is_never_between() {
        let mut frames = Frames::default();
        assert!(frames.pass(&[0x83, 0]));
        assert!(!frames.is_between());
        assert!(frames.pass(b"anything"));
        let mut frames = Frames::default();
        assert!(frames.pass(&[0x89, 126, 0, 200]), "a ping of 200 bytes");
        let mut frames = Frames::default();
        assert!(frames.pass(&[0x82, 127, 255, 0, 0, 0, 0, 0, 0, 0]));
    }

    proptest! {
        #[test]
        fn borders_are_found_however_the_bytes_are_cut(
            frames in proptest::collection::vec(
                (prop_oneof![Just(0_u8), Just(1), Just(2), Just(9), Just(10)], 0..300_usize, any::<bool>()), 0..20),
            cut in 1..50_usize,
        ) {
            let mut bytes = Vec::new();
            let mut has_data = false;
            for (opcode, length, masked) in frames {
                let length = if opcode >= 8 { length.min(125) } else { length };
                has_data |= opcode < 8;
                bytes.extend(frame(opcode, length, masked));
            }
            let mut reader = Frames::default();
            let mut found = false;
            for chunk in bytes.chunks(cut) {
                found |= reader.pass(chunk);
            }
            prop_assert_eq!(found, has_data);
            prop_assert!(reader.is_between());
        }

        #[test]
        fn strange_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            Frames::default().pass(&bytes);
        }
    }
}
