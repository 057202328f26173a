"""The weights in models/guard behind MLServer: token windows as the manifest has them, the largest score of each label."""

import json
import pathlib

import numpy
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from tokenizers import Tokenizer

MODEL = pathlib.Path(__file__).resolve().parents[3] / "models" / "guard"


class Guard(MLModel):
    async def load(self) -> bool:
        self.manifest = json.loads((MODEL / "manifest.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        weights = MODEL / self.manifest["files"]["weights"]["path"]
        self.session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = [self.scores(text) for text in StringCodec.decode_input(payload.inputs[0])]
        output = NumpyCodec.encode_output("scores", numpy.array(rows, dtype=numpy.float32))
        return InferenceResponse(model_name=self.name, model_version=self.manifest["revision"], outputs=[output])

    def scores(self, text):
        """Injection, jailbreak, hate, harassment, self-harm, sexual, violence, illicit."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        first, last = (self.tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
        content, stride = self.manifest["window"]["tokens"] - 2, self.manifest["window"]["stride"]
        starts = range(0, max(len(ids) - content, 0) + stride, stride)
        windows = (numpy.array([[first, *ids[at : at + content], last]], dtype=numpy.int64) for at in starts)
        return numpy.max([self.window(ids) for ids in windows], axis=0)

    def window(self, ids):
        attack, harm = self.session.run(["prompt_attack", "harm"], {"input_ids": ids, "attention_mask": numpy.ones_like(ids)})
        attack = numpy.exp(attack[0] - attack[0].max())
        return numpy.concatenate([attack[1:] / attack.sum(), 1 / (1 + numpy.exp(-harm[0]))])
