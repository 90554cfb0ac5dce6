//! PyTorch, in a process of its own that answers requests line by line: `benches/pytorch/server.py`.

use super::trainer::Losses;
use crate::check::{OTHERS, check, results};
use crate::contender::{Contender, Pass};
use crate::number::Number;
use crate::oracle::{Sample, Tensor};
use crate::problem::Problem;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// How starting went.
pub enum Start {
    Ready(Python),
    /// It runs, but has no PyTorch; why.
    Missing(String),
}

/// The process. It ends when its stdin closes.
pub struct Python {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    tasks: usize,
    /// Of PyTorch.
    pub version: String,
    /// The instruction set that PyTorch chose.
    pub capability: String,
}

impl Python {
    /// Runs `program` with PyTorch on `threads` threads, and with more `environment`.
    ///
    /// # Errors
    ///
    /// The program cannot be run or is no Python; the message names it.
    pub fn start(
        program: &Path,
        threads: usize,
        environment: &[(&str, &str)],
    ) -> Result<Start, String> {
        let failed = |why: String| format!("--python {}: {why}", program.display());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("pytorch/server.py");
        let mut child = Command::new(program)
            .arg(script)
            .env("OMP_NUM_THREADS", threads.to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(format!("cannot be run: {error}")))?;
        let mut python = Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().expect("stdout is piped")),
            child,
            tasks: 0,
            version: String::new(),
            capability: String::new(),
        };
        let hello = python
            .ask(json!({"do": "hello", "threads": threads}))
            .map_err(failed)?;
        if let Some(why) = hello["missing"].as_str() {
            return Ok(Start::Missing(failed(why.into())));
        }
        let text = |name: &str| hello[name].as_str().unwrap_or("unknown").to_owned();
        (python.version, python.capability) = (text("torch"), text("capability"));
        Ok(Start::Ready(python))
    }

    fn ask(&mut self, request: Value) -> Result<Value, String> {
        // If it is gone, its missing answer says so.
        let stdin = self.stdin.as_mut().expect("open until dropped");
        let _ = writeln!(stdin, "{request}").and_then(|()| stdin.flush());
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line);
        if !matches!(read, Ok(1..)) {
            let status = self.child.wait();
            let status = status.map_or_else(|error| error.to_string(), |s| s.to_string());
            return Err(format!("ended without an answer ({status})"));
        }
        let answer: Value = serde_json::from_str(&line)
            .map_err(|_| format!("is not a Python that answers: {}", line.trim_end()))?;
        match answer["error"].as_str() {
            Some(error) => Err(format!("PyTorch failed: {error}")),
            None => Ok(answer),
        }
    }

    fn seconds(&mut self, task: usize) -> Result<(f64, Value), String> {
        let answer = self.ask(json!({"do": "run", "id": task}))?;
        let seconds = answer["seconds"].as_f64().ok_or("no seconds")?;
        // Its threads wait actively for a while.
        std::thread::sleep(Duration::from_millis(30));
        Ok((seconds, answer))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Nothing to be done about a process that cannot be waited for.
        let _ = self.child.wait();
    }
}

/// A task of the process.
struct Task<'a> {
    python: &'a RefCell<Python>,
    id: usize,
    note: String,
}

impl<'a> Task<'a> {
    /// `options` becomes the request.
    fn new(python: &'a RefCell<Python>, kind: &str, mut options: Value) -> Result<Self, String> {
        let mut process = python.borrow_mut();
        process.tasks += 1;
        let id = process.tasks;
        options["do"] = json!("prepare");
        options["id"] = json!(id);
        options["kind"] = json!(kind);
        let answer = process.ask(options)?;
        Ok(Self {
            python,
            id,
            note: answer["note"].as_str().unwrap_or_default().into(),
        })
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        // A process that has ended holds nothing.
        let _ = (self.python.borrow_mut()).ask(json!({"do": "drop", "id": self.id}));
    }
}

/// Attention of one kind: "dense", "dilated", "decode".
pub struct Attention<'a, E> {
    task: Task<'a>,
    problem: Problem,
    /// Which rows the results hold: all, or the last one.
    rows: usize,
    /// What it must deliver.
    tensors: Vec<Tensor>,
    flops: f64,
    folder: &'a Path,
    element: PhantomData<E>,
}

impl<'a, E: Number> Attention<'a, E> {
    /// On the inputs in `folder`, where results go too.
    ///
    /// # Errors
    ///
    /// PyTorch's, as it says them.
    pub fn new(
        python: &'a RefCell<Python>,
        kind: &str,
        problem: &Problem,
        pass: Pass,
        folder: &'a Path,
    ) -> Result<Self, String> {
        let options = json!({
            "folder": folder,
            "dtype": E::NAME,
            "heads": problem.heads,
            "n": problem.n,
            "d": problem.d,
            "both": pass == Pass::Both,
            "branches": problem.branches,
        });
        let (rows, flops) = match kind {
            "decode" => (1, problem.decode_flops()),
            _ => (problem.n, problem.flops(pass)),
        };
        Ok(Self {
            task: Task::new(python, kind, options)?,
            problem: problem.clone(),
            rows,
            // The dense kernel's users do not see its lse.
            tensors: results(pass, kind != "dense"),
            flops,
            folder,
            element: PhantomData,
        })
    }

    /// Where PyTorch writes a result.
    fn path(&self, tensor: Tensor) -> PathBuf {
        let name = match tensor {
            Tensor::Out => "out",
            Tensor::Lse => "lse",
            Tensor::Dq => "dq",
            Tensor::Dk => "dk",
            Tensor::Dv => "dv",
        };
        self.folder.join(format!("result-{name}"))
    }

    /// A result, if PyTorch must deliver it.
    fn read<T: bytemuck::Pod>(&self, tensor: Tensor) -> Result<Vec<T>, String> {
        if !self.tensors.contains(&tensor) {
            return Ok(Vec::new());
        }
        let path = self.path(tensor);
        let bytes = fs::read(&path)
            .map_err(|error| format!("PyTorch gave no {tensor:?}: {}: {error}", path.display()))?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }
}

impl<E: Number> Contender for Attention<'_, E> {
    fn name(&self) -> String {
        "PyTorch".into()
    }

    fn note(&self) -> String {
        self.task.note.clone()
    }

    fn flops(&self) -> Option<f64> {
        Some(self.flops)
    }

    fn tokens(&self) -> Option<usize> {
        Some(self.rows)
    }

    fn check(&mut self, samples: &[Sample]) -> Result<Option<f64>, String> {
        for &tensor in &self.tensors {
            // An earlier contender's must not be taken for its own; mostly there is none.
            let _ = fs::remove_file(self.path(tensor));
        }
        let request = json!({"do": "results", "id": self.task.id});
        self.task.python.borrow_mut().ask(request)?;
        let lse: Vec<f32> = self.read(Tensor::Lse)?;
        let out: Vec<E> = self.read(Tensor::Out)?;
        let (dq, dk, dv) = (
            self.read(Tensor::Dq)?,
            self.read(Tensor::Dk)?,
            self.read(Tensor::Dv)?,
        );
        let (problem, skipped) = (self.problem.with_n(self.rows), self.problem.n - self.rows);
        let read = |tensor, head, row: usize| {
            let row = row.checked_sub(skipped)?;
            let tensor = match tensor {
                Tensor::Lse => return Some(vec![f64::from(*lse.get(head * self.rows + row)?)]),
                Tensor::Out => &out,
                Tensor::Dq => &dq,
                Tensor::Dk => &dk,
                Tensor::Dv => &dv,
            };
            problem.row(tensor, head, row)
        };
        check(samples, &self.tensors, &read, OTHERS).map(Some)
    }

    fn run(&mut self) -> Result<f64, String> {
        Ok(self.task.python.borrow_mut().seconds(self.task.id)?.0)
    }
}

/// Training steps of a language model.
pub struct Trainer<'a> {
    task: Task<'a>,
    tokens: usize,
    losses: Losses,
}

impl<'a> Trainer<'a> {
    /// `options` as `benches/pytorch/lm.py` takes them; each step adds to `losses`.
    ///
    /// # Errors
    ///
    /// PyTorch's, as it says them.
    pub fn new(
        python: &'a RefCell<Python>,
        tokens: usize,
        options: Value,
        losses: Losses,
    ) -> Result<Self, String> {
        Ok(Self {
            task: Task::new(python, "train", options)?,
            tokens,
            losses,
        })
    }
}

impl Contender for Trainer<'_> {
    fn name(&self) -> String {
        "PyTorch".into()
    }

    fn note(&self) -> String {
        self.task.note.clone()
    }

    fn tokens(&self) -> Option<usize> {
        Some(self.tokens)
    }

    /// Only warms up: steps are compared with ours, by their losses.
    fn check(&mut self, _: &[Sample]) -> Result<Option<f64>, String> {
        self.run()?;
        Ok(None)
    }

    fn run(&mut self) -> Result<f64, String> {
        let (seconds, answer) = self.task.python.borrow_mut().seconds(self.task.id)?;
        self.losses
            .borrow_mut()
            .push(answer["loss"].as_f64().unwrap_or(f64::NAN));
        Ok(seconds)
    }
}
