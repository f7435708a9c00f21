//! A plain binary form for files that never leave the host: fixed and counted fields, and a hash at the end.

/// Writes fields one after another.
pub struct Writer(Vec<u8>);

impl Writer {
    /// Begins with a magic text.
    pub fn new(magic: &[u8]) -> Self {
        Self(magic.to_vec())
    }

    /// Bytes whose number the reader knows.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A number.
    pub fn u32(&mut self, number: u32) {
        self.fixed(&number.to_le_bytes());
    }

    /// A number.
    pub fn u64(&mut self, number: u64) {
        self.fixed(&number.to_le_bytes());
    }

    /// How many of something follow.
    pub fn length(&mut self, length: usize) {
        self.u64(length as u64);
    }

    /// Bytes with their number.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.fixed(bytes);
    }

    /// What was written so far.
    pub fn written(&self) -> &[u8] {
        &self.0
    }

    /// How much was written so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets what was written so far.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// All of it with its hash.
    pub fn finish(mut self) -> Vec<u8> {
        let hash = blake3::hash(&self.0);
        self.fixed(hash.as_bytes());
        self.0
    }
}

/// Reads what [`Writer`] wrote; every method gives `None` where it is something else.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Checks the hash and the magic text.
    pub fn new(bytes: &'a [u8], magic: &[u8]) -> Option<Self> {
        let (body, hash) = bytes.split_last_chunk::<32>()?;
        (blake3::hash(body) == *hash).then_some(())?;
        body.strip_prefix(magic).map(Self)
    }

    /// Bytes of a known number.
    pub fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    /// A number.
    pub fn u32(&mut self) -> Option<u32> {
        self.fixed().map(u32::from_le_bytes)
    }

    /// A number.
    pub fn u64(&mut self) -> Option<u64> {
        self.fixed().map(u64::from_le_bytes)
    }

    /// How many follow; never more than there are bytes left.
    pub fn length(&mut self) -> Option<usize> {
        let length = usize::try_from(self.u64()?).ok()?;
        (length <= self.0.len()).then_some(length)
    }

    /// Bytes with their number.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(bytes)
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
