"""Bodies on which readers of JSON differ, in JSONTestSuite's classes: `y` every reader takes, `n` none should, `i` is left
to each. Written for this project; each body carries the forbidden phrase somewhere, `calm` gives it without."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass, field

PHRASE = "zq forbidden words"
CALM = "a few honest words"
JSON = {"Content-Type": "application/json"}
CHAT = '{"model":"m","messages":[{"role":"user","content":"%s"}]%s}'
PLAIN = CHAT % (PHRASE, "")


@dataclass(frozen=True)
class Case:
    name: str
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: JSON)
    status: tuple[int, ...] = (400,)

    def calm(self) -> bytes:
        return self.body.replace(PHRASE.encode(), CALM.encode())


def chat(content: str = PHRASE, more: str = "") -> bytes:
    return (CHAT % (content, more)).encode()


def tree(**more: object) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], **more}
    return json.dumps(body).encode()


def message(**more: object) -> bytes:
    return tree(messages=[{"role": "user", "content": "Hello", **more}])


ESCAPED = "".join(f"\\u{ord(char):04x}" for char in PHRASE)

ACCEPTED = [
    Case("y_plain", PLAIN.encode()),
    Case("y_whitespace_everywhere", PLAIN.replace(":", " \t: \r\n").replace(",", " ,\n").encode()),
    Case("y_whitespace_around", b" \n\t\r" * 5000 + PLAIN.encode() + b"\n" * 5000),
    Case("y_escaped_letters", chat(ESCAPED)),
    Case("y_escaped_key", PLAIN.replace('"content"', '"cont\\u0065nt"').encode()),
    Case("y_escaped_solidus", chat(f"{PHRASE} \\/ and")),
    Case("y_surrogate_pair", chat(f"\\ud83d\\ude00 {PHRASE}")),
    Case("y_noncharacters", chat(f"\\uffff\\ufdd0 {PHRASE}")),
    Case("y_raw_unicode", chat(f"\u2028\u2029\x7f\U0001f600é {PHRASE}")),
    Case("y_escaped_nul", chat(f"\\u0000 {PHRASE}")),
    Case("y_all_escapes", chat(f'\\"\\\\\\b\\f\\n\\r\\t {PHRASE}')),
    Case("y_big_integer", chat(more=',"seed":123456789012345678901234567890')),
    Case("y_exponents", chat(more=',"temperature":1E0,"top_p":1e-1,"x":[1.0,-0,-0.0,0e1,1E+2,123.456e-7]')),
    Case("y_underflow", chat(more=',"x":1e-400')),
    Case("y_empty_key", chat(more=',"":{"":[]}')),
    Case("y_depth_60", chat(more=',"x":' + "[" * 60 + "]" * 60)),
    Case("y_null_members", chat(more=',"stream":null,"tools":null,"stop":null')),
    Case("y_nearly_the_same_keys", chat(more=',"Model":"x","MESSAGES":[],"mode\\u217c":1')),
    Case("y_mixed_array", chat(more=',"x":[null,true,1,"s",{},[]]')),
    Case("y_long_string", chat("word " * 2000 + PHRASE)),
    Case("y_unknown_member", tree(novel={"deep": [{"deeper": PHRASE}]})),
    Case("y_unknown_key", tree(novel={PHRASE: 1})),
    Case("y_capital_content", message(Content=PHRASE)),
    Case("y_look_alike_content", message(**{"c\u043entent": PHRASE})),
    Case("y_key_with_nul", tree(**{"messages\u0000": [{"role": "user", "content": PHRASE}]})),
    Case("y_key_with_long_s", tree(**{"me\u017fsages": [{"role": "user", "content": PHRASE}]})),
    Case("y_name", message(name=PHRASE)),
    Case("y_metadata", tree(metadata={"note": PHRASE})),
    Case("y_metadata_key", tree(metadata={PHRASE: "x"})),
    Case("y_user", tree(user=PHRASE)),
    Case("y_stop", tree(stop=["x", PHRASE])),
    Case("y_tool_description", tree(tools=[{"type": "function", "function": {"name": "f", "description": PHRASE}}])),
    Case("y_schema_enum", tree(tools=[{"type": "function", "function": {"name": "f", "parameters": {"enum": [PHRASE]}}}])),
    Case("y_parts", message(content=[{"type": "text", "text": "Hello"}, {"type": "text", "text": PHRASE}])),
    Case("y_unknown_part", message(content=[{"type": "novel", "novel": PHRASE}])),
    Case("y_model", tree(model=PHRASE)),
    Case("y_gzip", gzip.compress(PLAIN.encode()), {**JSON, "Content-Encoding": "gzip"}),
    Case("y_gzip_twice", gzip.compress(gzip.compress(PLAIN.encode())), {**JSON, "Content-Encoding": "gzip, gzip"}),
    Case("y_gzip_deflate", zlib.compress(gzip.compress(PLAIN.encode())), {**JSON, "Content-Encoding": "gzip, deflate"}),
    Case("y_gzip_members", gzip.compress(PLAIN[:20].encode()) + gzip.compress(PLAIN[20:].encode()), {**JSON, "Content-Encoding": "gzip"}),
    Case("y_charset", PLAIN.encode(), {"Content-Type": 'Application/JSON; charset="UTF-8"'}),
]  # fmt: skip

BOMB = gzip.compress(chat() + b" " * 30_000_000)
TWICE = '{"model":"m","messages":[{"role":"user","content":"%s","content":null}]}' % PHRASE
AFTER = '{"model":"m","messages":[{"role":"user","content":"Hello"}],"messages":[{"role":"user","content":"%s"}]}' % PHRASE


def form(kind: str) -> dict[str, str]:
    return {"Content-Type": kind}


REFUSED = [
    Case("n_empty", b""),
    Case("n_blank", b"   "),
    Case("n_trailing_comma", PLAIN[:-1].encode() + b",}"),
    Case("n_trailing_comma_in_array", PLAIN.replace("}]", "},]").encode()),
    Case("n_single_quotes", PLAIN.replace('"', "'").encode()),
    Case("n_bare_keys", PLAIN.replace('"model"', "model").encode()),
    Case("n_line_comment", b"// x\n" + PLAIN.encode()),
    Case("n_block_comment", PLAIN.replace(":", ":/*x*/", 1).encode()),
    Case("n_hash_comment", b"# x\n" + PLAIN.encode()),
    *(Case(f"n_number_{at}", chat(more=f',"x":{number}')) for at, number in enumerate(
        "NaN Infinity -Infinity 1e400 -1e400 01 -01 +1 .5 1. 1.e1 0x10 1_000 1e 1e+ - --1 ١".split())),
    *(Case(f"n_word_{word}", chat(more=f',"x":{word}')) for word in "True None undefined nul TRUE".split()),
    Case("n_trailing_brace", PLAIN.encode() + b"}"),
    Case("n_two_documents", PLAIN.encode() * 2),
    Case("n_lines_of_documents", PLAIN.encode() + b"\n" + PLAIN.encode()),
    Case("n_trailing_nul", PLAIN.encode() + b"\0"),
    Case("n_trailing_garbage", PLAIN.encode() + b"\xff"),
    Case("n_unclosed", PLAIN[:-1].encode()),
    Case("n_unclosed_string", PLAIN[:-5].encode()),
    Case("n_raw_newline_in_string", chat(f"a\n{PHRASE}")),
    Case("n_raw_nul_in_string", chat(f"\0{PHRASE}")),
    Case("n_raw_tab_in_string", chat(f"\t{PHRASE}")),
    *(Case(f"n_escape_{at}", chat(f"{escape} {PHRASE}")) for at, escape in enumerate(
        ["\\x41", "\\a", "\\u12", "\\u12g4", "\\U00000041", "\\'", "\\u{41}"])),
    *(Case(f"n_surrogate_{at}", chat(f"{lone} {PHRASE}")) for at, lone in enumerate(
        ["\\ud800", "\\udc00", "\\ude00\\ud83d", "\\ud800\\u0041", "\\ud83d\\ud83d"])),
    *(Case(f"n_utf8_{at}", PLAIN.encode().replace(b"zq", wrong + b"zq")) for at, wrong in enumerate(
        [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80", b"\xe2\x82", b"\xfc\x83\xbf\xbf\xbf\xbf"])),
    Case("n_bom", b"\xef\xbb\xbf" + PLAIN.encode()),
    *(Case(f"n_{name}", PLAIN.encode(name)) for name in
      "utf-16 utf-16-le utf-16-be utf-32 utf-32-le utf-32-be".split()),
    Case("n_utf7", PLAIN.replace('"', "+ACI-").encode()),
    Case("n_vertical_tab", b"\x0b" + PLAIN.encode()),
    Case("n_form_feed", PLAIN.replace(":", "\f:", 1).encode()),
    Case("n_no_break_space", "\u00a0".encode() + PLAIN.encode()),
    Case("n_duplicate_null_after", TWICE.encode()),
    Case("n_duplicate_messages", AFTER.encode()),
    Case("n_duplicate_escaped", AFTER.replace('"messages"', '"m\\u0065ssages"', 1).encode()),
    Case("n_duplicate_deep", chat(more=',"x":[{"y":{"a":1,"a":2}}]')),
    Case("n_duplicate_empty_key", chat(more=',"":1,"":2')),
    Case("n_duplicate_among_many", chat(more="".join(f',"k{at}":1' for at in range(50)) + ',"k7":2')),
    Case("n_depth_200", chat(more=',"x":' + "[" * 200 + "]" * 200)),
    Case("n_depth_100000", b"[" * 100_000),
    Case("n_depth_of_objects", b'{"a":' * 50_000),
    Case("n_array", f"[{PLAIN}]".encode()),
    Case("n_string", json.dumps(PLAIN).encode()),
    Case("n_number", b"7"),
    Case("n_messages_object", tree(messages={"0": {"role": "user", "content": PHRASE}})),
    Case("n_messages_string", tree(messages=PHRASE)),
    Case("n_message_string", tree(messages=[PHRASE])),
    Case("n_content_number", message(content=7)),
    Case("n_content_bool", message(content=True)),
    Case("n_content_object", message(content={"text": PHRASE})),
    Case("n_content_nested", message(content=[[{"type": "text", "text": PHRASE}]])),
    Case("n_role_array", message(role=["user"], content=PHRASE)),
    Case("n_role_unknown", message(role=PHRASE)),
    Case("n_stream_text", chat(more=',"stream":"true"')),
    Case("n_stream_number", chat(more=',"stream":1')),
    Case("n_count_text", chat(more=',"n":"3"')),
    Case("n_model_array", tree(model=[PHRASE])),
    Case("n_values_200001", chat(more=',"x":[' + "1," * 200_001 + "1]"), status=(413,)),
    Case("n_gzip_lie", PLAIN.encode(), {**JSON, "Content-Encoding": "gzip"}),
    Case("n_gzip_cut", gzip.compress(PLAIN.encode())[:-9], {**JSON, "Content-Encoding": "gzip"}),
    Case("n_gzip_unsaid", gzip.compress(PLAIN.encode())),
    Case("n_gzip_trailing", gzip.compress(PLAIN.encode()) + b"trailing", {**JSON, "Content-Encoding": "gzip"}),
    Case("n_gzip_bomb", BOMB, {**JSON, "Content-Encoding": "gzip"}, (413,)),
    Case("n_gzip_bomb_in_gzip", gzip.compress(BOMB), {**JSON, "Content-Encoding": "gzip, gzip"}, (413,)),
    Case("n_encoding_unknown", PLAIN.encode(), {**JSON, "Content-Encoding": "compress"}, (415,)),
    Case("n_encoding_stack", PLAIN.encode(), {**JSON, "Content-Encoding": "gzip, gzip, gzip, gzip"}, (415,)),
    Case("n_no_content_type", PLAIN.encode(), {}, (415,)),
    Case("n_text", PLAIN.encode(), form("text/plain"), (415,)),
    Case("n_form", b"model=m&messages=" + PHRASE.encode(), form("application/x-www-form-urlencoded"), (415,)),
    Case("n_json_as_form", PLAIN.encode(), form("application/x-www-form-urlencoded"), (415,)),
    Case("n_multipart", b"--x\r\n\r\n" + PLAIN.encode() + b"\r\n--x--", form("multipart/form-data; boundary=x"), (415,)),
    Case("n_other_json", PLAIN.encode(), form("application/vnd.api+json"), (415,)),
    Case("n_charset_utf16", PLAIN.encode("utf-16"), form("application/json; charset=utf-16"), (415,)),
    Case("n_charset_lie", PLAIN.encode(), form("application/json; charset=utf-7"), (415,)),
    Case("n_two_types", PLAIN.encode(), form("application/json, text/plain"), (415,)),
]  # fmt: skip

# What Wardline does with these is its own choice, and recorded here: the status of the calm body.
LEFT_OPEN = [
    (Case("i_depth_63", chat(more=',"x":' + "[" * 63 + "]" * 63)), 200),
    (Case("i_depth_64", chat(more=',"x":' + "[" * 64 + "]" * 64)), 400),
    (Case("i_number_of_300_digits", chat(more=',"x":' + "9" * 300)), 200),
    (Case("i_number_beyond_all_doubles", chat(more=',"x":' + "9" * 5000)), 400),
    (Case("i_many_digits_behind_the_point", chat(more=',"x":0.' + "1" * 5000)), 200),
    (Case("i_largest_double", chat(more=',"x":1.7976931348623157e308')), 200),
    (Case("i_over_the_largest_double", chat(more=',"x":1.7976931348623159e308')), 400),
    (Case("i_byte_order_mark_in_a_string", chat(f"\ufeff{PHRASE}")), 200),
    (Case("i_private_use", chat(f"\ue000{PHRASE}")), 200),
    (Case("i_empty_part", message(content=[])), 200),
]  # fmt: skip
