//! Words of other tools, and what they are called here: an unknown name may be one that its writer knows from elsewhere.

use crate::problem::suggest;

/// Where words stand (an item's settings by the item's name), the words without capitals and signs, and the help for them.
const WORDS: &[(&str, &[&str], &str)] = &[
    (
        "train",
        &["lr", "learningrate", "optimizer", "optim", "denseoptimizer", "embeddinglr", "sparselr"],
        "dense parameters and tables have an optimizer each, which takes the rate: `dense: adam(lr: 1e-3)`, `tables: adam(lr: 1e-3)`",
    ),
    ("train", &["batchsize", "bs", "trainbatchsize"], "it is called `batch`"),
    ("train", &["numepochs", "maxepochs", "nepochs", "numtrainepochs"], "it is called `epochs`"),
    (
        "train",
        &["patience", "earlystop", "earlystopping", "earlystoppatience", "earlystoppingpatience", "monitor"],
        "such as `stop: patience(2, on: auc(click))`: the epochs to wait, and the metric of a prediction",
    ),
    (
        "train",
        &["weightdecay", "l2", "regularizer", "embeddingregularizer", "netregularizer", "decay"],
        "an optimizer takes it: `dense: adam(lr: 1e-3, l2: 1e-5)`, or `adamw(decay: 0.01)`",
    ),
    (
        "train",
        &["scheduler", "lrscheduler", "lrschedule", "schedule", "warmup", "warmupsteps", "cosine", "plateau"],
        "such as `rate: warmup(1000) |> cosine(epochs: 10)` or `rate: plateau(on: auc(click))`",
    ),
    ("train", &["gradclip", "gradientclip", "clipnorm", "maxnorm", "maxgradientnorm", "gradientclipping"], "such as `clip: norm(10)`"),
    (
        "train",
        &["dropout", "netdropout", "hiddenunits", "dnnhiddenunits", "activation", "dnnactivations", "batchnorm"],
        "it belongs to the model, among a block's arguments: `mlp(x, [64, 32], dropout: 0.2)`",
    ),
    ("train", &["embeddingdim", "embdim", "embedding"], "each table has its width: `table users { keys: user, dim: 16 }`"),
    ("train", &["loss", "losses", "criterion", "lossfn"], "losses stand in `objective { click: bce }`"),
    ("train", &["metrics", "metric", "evalmetrics", "report"], "metrics stand in `metrics { report: [auc, logloss] }`"),
    ("train", &["numworkers", "workers", "threads", "numthreads", "njobs"], "the command line says it: `./model train --threads 2`"),
    ("train", &["device", "gpu", "cuda"], "it is chosen where the model is built: `recc build --target cuda`"),
    ("train", &["randomseed", "randomstate"], "it is called `seed`"),
    ("train", &["amp", "fp16", "mixedprecision", "dtype"], "such as `precision: bf16`"),
    ("train", &["checkpoint", "savepath", "modelroot", "out", "output"], "the command line says it: `./model train --out FOLDER`"),
    ("train", &["data", "traindata", "validdata", "dataset"], "files stand in `data { train: \"train.csv\" }`, or behind `--train`"),
    ("table", &["embeddingdim", "size", "width", "embdim", "dimension"], "it is called `dim`"),
    ("table", &["key", "feature", "features", "ids", "column"], "it is called `keys`"),
    (
        "table",
        &["vocabsize", "numembeddings", "vocab", "buckets"],
        "a table has a row for each value that its feature finds; `vocab(min_count: 2)` or `hash(1000)` of the feature makes them fewer",
    ),
    ("table", &["initializer", "initialization", "std"], "such as `init: normal(0.01)`"),
    ("table", &["regularizer", "weightdecay"], "it is called `l2`"),
    ("table", &["lr", "learningrate"], "an optimizer takes it: `optimizer: adam(lr: 1e-3)`"),
    ("data", &["path", "file", "files", "dataroot", "traindata"], "parts are files: `train: \"train.csv\"`, `valid: …`, `test: …`"),
    ("data", &["validation", "val", "dev", "evaldata", "validdata"], "it is called `valid`"),
    ("data", &["testdata"], "it is called `test`"),
    ("data", &["sep", "delim", "delimiter"], "it is called `separator`"),
    ("data", &["names", "header", "columnnames"], "it is called `columns`: the names, where the file has no header"),
    ("data", &["batchsize", "batch"], "it stands in `train { batch: 4096 }`"),
    ("metrics", &["metrics", "metric", "eval", "evalmetrics"], "such as `report: [auc, logloss]`"),
    ("metrics", &["monitor", "best"], "`train` says it: `stop: patience(2, on: auc(click))`"),
    (
        "loss",
        &["binarycrossentropy", "binarycrossentropywithlogits", "bceloss", "bcewithlogits", "bcewithlogitsloss", "logloss", "logistic"],
        "it is called `bce`",
    ),
    (
        "loss",
        &["crossentropyloss", "ce", "categoricalcrossentropy", "softmax", "softmaxcrossentropy", "sampledsoftmax"],
        "it is called `cross_entropy`",
    ),
    ("loss", &["mseloss", "meansquarederror", "l2", "squared"], "it is called `mse`"),
    ("loss", &["l1", "l1loss", "maeloss", "meanabsoluteerror"], "it is called `mae`"),
    ("loss", &["smoothl1", "smoothl1loss", "huberloss"], "it is called `huber`"),
    ("loss", &["focalloss"], "it is called `focal`"),
    ("loss", &["bprloss", "pairwise"], "it is called `bpr`"),
    ("metric", &["rocauc", "auroc", "rocaucscore"], "it is called `auc`"),
    ("metric", &["groupauc", "uauc"], "such as `gauc(by: user_id)`, with a feature of kind `key`"),
    ("metric", &["recall", "hit", "hitrate", "hits", "recallatk"], "such as `hr(10)`: a user has one target, of which it is the recall"),
    (
        "metric",
        &["accuracy", "acc", "precision", "f1", "f1score"],
        "it depends on a threshold, which no metric here does: report `auc`, `logloss`, `ne` or `calibration`",
    ),
    ("metric", &["bce", "binarycrossentropy", "crossentropy"], "it is called `logloss`"),
    ("metric", &["normalizedentropy"], "it is called `ne`"),
    ("metric", &["mse", "meansquarederror", "mae"], "report `rmse`"),
    ("metric", &["map", "reciprocalrank"], "it is called `mrr`"),
    (
        "feature",
        &["categorical", "category", "cat", "sparse", "onehot", "string", "discrete"],
        "it is called `id`: `id item = item |> vocab`",
    ),
    (
        "feature",
        &["numeric", "num", "dense", "float", "continuous", "real", "int"],
        "it is called `number`: `number price = price |> log1p`",
    ),
    (
        "feature",
        &["multihot", "bag", "tags", "list", "array", "multivalue"],
        "it is called `ids`: `ids tags = tags |> split(\"|\") |> vocab`",
    ),
    (
        "feature",
        &["sequence", "history", "varlen", "varlensparse"],
        "it is called `seq`: `seq items = items |> split(\" \") |> vocab |> take_last(50)`",
    ),
    ("feature", &["target", "y", "output"], "it is called `label`: `label click: binary`"),
    ("feature", &["timestamp", "datetime", "date"], "it is called `time`"),
    ("feature", &["embedding"], "numbers of the file are a `vector`; learned rows stand in a model's `table`"),
    (
        "function",
        &["dense", "fc", "fullyconnected", "denselayer"],
        "a layer without an activation is `linear(x, 64)`, of `use std.dense.linear`",
    ),
    ("function", &["dnn", "feedforward", "multilayerperceptron", "ffn"], "it is called `mlp(x, [64, 32])`, of `use std.dense.mlp`"),
    (
        "function",
        &["embedding", "embeddingbag", "embed", "lookup"],
        "rows are looked up in a table by brackets: `users[user]`, with `table users { keys: user, dim: 16 }`",
    ),
    ("function", &["cat", "concatenate", "hstack"], "it is called `concat`"),
    ("function", &["where", "iif", "cond"], "it is called `select(condition, a, b)`"),
    ("function", &["matmul", "mm", "bmm"], "write `a @ b`, or `einsum(\"i j, j k -> i k\", a, b)` where axes repeat"),
    ("function", &["view", "squeeze", "unsqueeze"], "it is called `reshape(x, [4, 8])`"),
    ("function", &["transpose", "permute"], "an einsum turns axes: `einsum(\"i j -> j i\", x)`"),
    ("function", &["avg", "average", "reducemean", "avgpool"], "it is called `mean`"),
    ("function", &["reducesum", "sumpool"], "it is called `sum`"),
    ("function", &["swish"], "it is called `silu`"),
    ("function", &["pow", "power"], "write `x * x`, or `exp(n * log(x))`"),
    ("function", &["range"], "a range is written `0..n`"),
    ("function", &["len", "length", "size", "shape"], "sizes are dimension variables: `block f(x: f32[F, D])` knows `F` and `D`"),
    ("function", &["detach", "stopgradient"], "it is called `hold(x)`"),
    ("function", &["true", "false"], "it is written in small letters: `true`, `false`"),
    ("function", &["null", "nil"], "an argument that takes it is given `none`; no activation and no norm is `identity`"),
    ("function", &["batchnorm1d", "batchnormalization"], "it is called `batch_norm`, of `use std.dense.batch_norm`"),
    ("function", &["layernormalization"], "it is called `layer_norm`, of `use std.dense.layer_norm`"),
    ("function", &["leakyrelu"], "write `max(x, 0.01 * x)`; `prelu` of std.dense learns the slope"),
    ("function", &["xaviernormal", "glorotnormal"], "it is called `xavier`"),
    ("function", &["glorotuniform"], "it is called `xavier_uniform`"),
    ("function", &["kaiming", "kaimingnormal", "henormal"], "it is called `he`"),
    ("function", &["gaussian", "randomnormal"], "it is called `normal`"),
    ("transform", &["normalize", "standardscaler", "zscore", "scale"], "it is called `standardize`"),
    ("transform", &["clip", "clamp"], "write `max(0) |> min(100)`: not below 0, not above 100"),
    ("transform", &["fillna", "impute", "default"], "it is called `fill(0)`"),
    ("transform", &["labelencoder", "labelencode", "factorize", "encode", "index", "dictionary"], "it is called `vocab`"),
    ("transform", &["hashing", "hashbucket", "featurehash"], "it is called `hash(100_000)`"),
    ("transform", &["bucketize", "discretize", "bins", "cut"], "it is called `bucket([6, 12, 18])`"),
    ("transform", &["tokenize", "explode"], "it is called `split(\" \")`"),
    (
        "transform",
        &["pad", "padding", "padsequences", "maxlen", "truncate", "limit"],
        "nothing is padded: `take(20)` keeps the first, `take_last(20)` the last values",
    ),
    ("table", &["pooling", "combiner"], "the model says it: `mean(words[tags], axis: tags)`"),
    ("table", &["paddingidx", "maskzero"], "nothing is padded, and row 0 is for what is missing"),
    ("metric", &["prauc", "aucpr", "averageprecision"], "it is not there: report `auc`, `logloss`, `ne` or `calibration`"),
];

/// A word without capitals and signs.
fn plain(word: &str) -> String {
    word.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// What a word of another tool is called here.
fn meant(place: &str, word: &str) -> Option<&'static str> {
    let plain = plain(word);
    let found = WORDS.iter().find(|(known, words, _)| *known == place && words.contains(&plain.as_str()));
    found.map(|(_, _, help)| *help)
}

/// The help for an unknown word: what another tool's word is called here, a known one like it, or all that are known.
pub(super) fn help<'n>(place: &str, word: &str, known: impl IntoIterator<Item = &'n str> + Clone) -> String {
    meant(place, word).map_or_else(|| suggest(word, known), str::to_owned)
}

/// Arguments of blocks by their names elsewhere.
const ARGUMENTS: &[(&[&str], &str)] = &[
    (&["hiddenunits", "hiddensizes", "hiddendims", "dnnhiddenunits", "layersizes"], "units"),
    (&["hiddenactivations", "act", "activationfn", "nonlinearity"], "activation"),
    (&["dropoutrate", "dropoutrates", "netdropout", "pdropout", "p"], "dropout"),
    (&["outfeatures", "outputdim", "outdim", "outputsize"], "out"),
    (&["numheads", "nheads", "nhead"], "heads"),
    (&["numlayers", "nlayers", "depth", "numcrosslayers", "numblocks"], "layers"),
    (&["numexperts", "nexperts"], "experts"),
    (&["usebias"], "bias"),
    (&["normalization", "batchnorm"], "norm"),
    (&["eps"], "epsilon"),
    (&["reductionratio"], "reduction"),
    (&["learningrate", "rate"], "lr"),
    (&["weightdecay"], "l2"),
];

/// The help for an unknown argument of a block or a function.
pub(super) fn argument<'n>(word: &str, known: impl IntoIterator<Item = &'n str> + Clone) -> String {
    let plain = plain(word);
    let meant = ARGUMENTS.iter().filter(|(words, _)| words.contains(&plain.as_str())).map(|(_, own)| *own);
    match meant.into_iter().find(|own| known.clone().into_iter().any(|known| known == *own)) {
        Some(own) => format!("it is called `{own}`"),
        None => suggest(word, known),
    }
}

/// What a name in an expression is called here.
pub(super) fn function(word: &str) -> Option<&'static str> {
    meant("function", word)
}
