//! Writes GGUF files for tests, right or wrong as asked.

pub use engine::formats::gguf::Meta;

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
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
