//! Writes GGUF files for tests, right or wrong as asked.

/// A metadata value.
#[derive(Clone, Debug)]
pub enum Meta {
    U8(u8),
    U32(u32),
    I32(i32),
    U64(u64),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Floats(Vec<f32>),
    Integers(Vec<i32>),
    /// Type id and bytes as they are.
    Raw(u32, Vec<u8>),
}

impl From<&str> for Meta {
    fn from(text: &str) -> Self {
        Meta::Text(text.to_owned())
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn array<T>(out: &mut Vec<u8>, kind: u32, items: &[T], mut one: impl FnMut(&mut Vec<u8>, &T)) {
    out.extend(9u32.to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend((items.len() as u64).to_le_bytes());
    for item in items {
        one(out, item);
    }
}

impl Meta {
    fn write(&self, out: &mut Vec<u8>) {
        let mut scalar = |kind: u32, bytes: &[u8]| {
            out.extend(kind.to_le_bytes());
            out.extend(bytes);
        };
        match self {
            Meta::U8(v) => scalar(0, &v.to_le_bytes()),
            Meta::U32(v) => scalar(4, &v.to_le_bytes()),
            Meta::I32(v) => scalar(5, &v.to_le_bytes()),
            Meta::F32(v) => scalar(6, &v.to_le_bytes()),
            Meta::Bool(v) => scalar(7, &[u8::from(*v)]),
            Meta::U64(v) => scalar(10, &v.to_le_bytes()),
            Meta::Raw(kind, bytes) => scalar(*kind, bytes),
            Meta::Text(v) => {
                scalar(8, &[]);
                text(out, v);
            }
            Meta::Texts(v) => array(out, 8, v, |out, v| text(out, v)),
            Meta::Floats(v) => array(out, 6, v, |out, v| out.extend(v.to_le_bytes())),
            Meta::Integers(v) => array(out, 5, v, |out, v| out.extend(v.to_le_bytes())),
        }
    }
}

/// A tensor's table entry and data.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dims: Vec<u64>,
    pub kind: u32,
    pub data: Vec<u8>,
    /// Written instead of the place that the data really has.
    pub offset: Option<u64>,
}

/// A file in the making.
#[derive(Clone, Debug)]
pub struct Writer {
    pub version: u32,
    pub alignment: u64,
    pub meta: Vec<(String, Meta)>,
    pub tensors: Vec<Tensor>,
}

impl Default for Writer {
    fn default() -> Self {
        Self { version: 3, alignment: 32, meta: Vec::new(), tensors: Vec::new() }
    }
}

impl Writer {
    /// Sets a metadata key, in place of an earlier value.
    pub fn set(&mut self, key: &str, value: impl Into<Meta>) -> &mut Self {
        self.meta.retain(|(k, _)| k != key);
        self.meta.push((key.to_owned(), value.into()));
        self
    }

    /// Adds an F32 tensor.
    pub fn f32(&mut self, name: &str, dims: &[u64], values: &[f32]) -> &mut Self {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.raw(name, dims, 0, data)
    }

    /// Adds a tensor of any type id.
    pub fn raw(&mut self, name: &str, dims: &[u64], kind: u32, data: Vec<u8>) -> &mut Self {
        self.tensors.push(Tensor { name: name.to_owned(), dims: dims.to_vec(), kind, data, offset: None });
        self
    }

    /// The tensor of this name, to spoil it.
    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.name == name).expect("a tensor of the test's own")
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.meta.len() as u64).to_le_bytes());
        for (key, value) in &self.meta {
            text(&mut out, key);
            value.write(&mut out);
        }
        let mut at = 0u64;
        for tensor in &self.tensors {
            text(&mut out, &tensor.name);
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(at).to_le_bytes());
            at = (at + tensor.data.len() as u64).next_multiple_of(self.alignment);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment as usize), 0);
            out.extend(&tensor.data);
        }
        out
    }
}
