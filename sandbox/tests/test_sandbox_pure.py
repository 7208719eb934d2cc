"""The parts of the fake that are functions: text in, values out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hive_sandbox.fake import bech32, bolt11, keys, onion, params
from hive_sandbox.fake.channel import Channel, Htlc, Policy
from hive_sandbox.fake.configfile import from_arguments, read
from hive_sandbox.fake.errors import PluginFailedError, RpcError, StartError
from hive_sandbox.fake.filters import apply_filter, check_filter
from hive_sandbox.fake.jsontext import NotJsonError, Stream, parse
from hive_sandbox.fake.log import Entry, LogBook, printable
from hive_sandbox.fake.options import Option, OptionTable, core_options
from hive_sandbox.fake.plugins.manifest import read_manifest
from hive_sandbox.fake.routes import fee_msat, find_route
from hive_sandbox.fake.runes import reason
from hypothesis import given
from hypothesis import strategies as st

# Made by a Core Lightning v25.12.1 on regtest.
REAL_INVOICE = (
    "lnbcrt500u1p4s96ygsp5fyk8cfcfn04dc2qtk7tzg8n3ndhjr0ggjq2kn0lk8lylxxahnm4spp5v36zgcjhapl9dd7km25hqqt8hr83plgk0qgp6"
    "qymalfygae80ezqdqzvsxqyjw5qcqp2rzjq0tzlzlz5czhl789w9jz06pe8as07e8yc54rhaqmh70l0vmprxshgqqqeyqqqqgqqqqqqqqpqqqqqzsqqc"
    "9qxpqysgq8my3utd6vywzm0m5eyp8ye99h0uftnz7cjvrd0ffj9dly3qqaxyjyv3vevquj0ar5ah03myzjadpndckek8ltm6td4qpdqg3keldgaqq9cg"
    "ww6"
)
REAL_SIGNER = "039a489b17331030d9f2ec953c0de435183fb326d242abac8148f8149615672191"
REAL_ZBASE = "rd5dzgckrbh6amdedj6r8kxr3yr1w3a7z1g5buugzakxn3wa948znddtpwdduphn3tbdwfim45ehfnhypubcs87e5u4bku8zhuaig8tu"


class TestStream:
    def test_messages_may_be_split_and_joined_anywhere(self) -> None:
        text = b'{"a":"\xc3\xa9"}\n\n{"b":2}{"c":[1,{}]}'
        stream, seen = Stream(), []
        for at in range(len(text)):
            seen += [message.text for message in stream.feed(text[at : at + 1])]
        assert seen == ['{"a":"é"}', '{"b":2}', '{"c":[1,{}]}']

    def test_members_keep_their_text(self) -> None:
        message = parse('{ "id" : 1.50, "params" :[ 1, "x" ] }')
        assert (message.raw("id"), message.raw("params"), message.raw("none")) == ("1.50", '[ 1, "x" ]', None)
        assert message.with_member("id", '"n"') == '{ "id" : "n", "params" :[ 1, "x" ] }'

    def test_words_stay_in_the_way(self) -> None:
        assert list(Stream().feed(b'hello\n{"a":1}')) == []

    def test_a_strict_stream_says_so(self) -> None:
        stream = Stream(strict=True)
        assert list(stream.feed(b"hello\n")) == []
        with pytest.raises(NotJsonError, match="hello"):
            list(stream.feed(b'{"a":1}'))

    @given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=8) | st.none(), max_size=5))
    def test_every_object_comes_out_as_it_went_in(self, value: dict[str, object]) -> None:
        from hive_sandbox.fake.jsontext import dumps

        (message,) = Stream().feed(dumps(value).encode("utf-8", "surrogatepass"))
        assert message.value == value
        assert set(message.spans) == set(value)


class TestConfigFile:
    def test_blanks_belong_to_what_they_touch(self, tmp_path: Path) -> None:
        (tmp_path / "config").write_text("# c\n\nalias=a b # c \nrgb =1\n", encoding="utf-8")
        lines = read(tmp_path / "config", must_exist=True)
        assert [(line.name, line.value, line.source.rpartition(":")[2]) for line in lines] == [
            ("alias", "a b # c ", "3"),
            ("rgb ", "1", "4"),
        ]

    def test_a_cr_is_a_line_end_of_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "config").write_bytes(b"alias=a\r\nrgb=b")
        assert [line.source.rpartition(":")[2] for line in read(tmp_path / "config", must_exist=True)] == ["1", "3"]

    def test_includes_are_relative_to_the_file_that_includes(self, tmp_path: Path) -> None:
        (tmp_path / "d").mkdir()
        (tmp_path / "config").write_text("include d/one\n", encoding="utf-8")
        (tmp_path / "d/one").write_text("include two\nalias=1\n", encoding="utf-8")
        (tmp_path / "d/two").write_text("rgb=2\n", encoding="utf-8")
        assert [line.name for line in read(tmp_path / "config", must_exist=True)] == ["rgb", "alias"]

    def test_a_missing_include_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "config").write_text("include none\n", encoding="utf-8")
        with pytest.raises(StartError, match=r"Opening and reading .*none: No such file"):
            read(tmp_path / "config", must_exist=True)

    def test_a_file_that_includes_itself_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "config").write_text("include config\n", encoding="utf-8")
        with pytest.raises(StartError, match="deeper than"):
            read(tmp_path / "config", must_exist=True)

    def test_the_command_line(self) -> None:
        lines = from_arguments(["--alias", "x", "--offline", "--rgb=1=2", "-h"], frozenset({"alias", "rgb"}))
        assert [(line.name, line.value) for line in lines] == [
            ("alias", "x"),
            ("offline", None),
            ("rgb", "1=2"),
            ("help", None),
        ]
        with pytest.raises(StartError, match="only options"):
            from_arguments(["what"], frozenset())


class TestOptions:
    def table(self, *texts: str) -> OptionTable:
        table = OptionTable()
        table.register(
            [Option("one", "int", 3), Option("many", "multi-str"), Option("yes", "bool"), Option("f", "flag")]
        )
        table.lines = from_arguments([f"--{text}" for text in texts], frozenset())
        return table

    def test_the_last_line_wins_and_lists_collect(self) -> None:
        table = self.table("one=4", "one=5", "many=a", "many=b")
        assert (table.value("one"), table.value("many"), table.value("f")) == (5, ["a", "b"], False)
        assert table.describe("many") == {"values_str": ["a", "b"], "sources": ["cmdline", "cmdline"]}

    def test_an_option_without_value_is_not_listed(self) -> None:
        assert self.table().describe("yes") is None
        assert self.table().describe("one") == {"value_int": 3, "source": "default"}

    @pytest.mark.parametrize(
        ("kind", "text", "reason"),
        [
            ("int", "abc", "'abc' is not a number"),
            ("bool", "maybe", "Invalid argument 'maybe'"),
            ("flag", "x", "doesn't allow an argument"),
            ("str", None, "requires an argument"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, kind: str, text: str | None, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            Option("o", kind).parse(text)

    def test_orphans_are_lines_without_an_option(self) -> None:
        table = self.table("one=4", "stray=1")
        assert [line.name for line in table.orphans()] == ["stray"]

    def test_the_two_releases_have_different_options(self) -> None:
        old = {option.name for option in core_options("v25.12.1")}
        new = {option.name for option in core_options("v26.06.6")}
        assert new - old >= {"experimental-bwatch", "message-padding"}
        assert not old - new


class TestManifest:
    def manifest(self, **more: object) -> dict[str, object]:
        return {"options": [], "rpcmethods": [{"name": "m", "usage": ""}], "dynamic": True, **more}

    def test_a_good_one(self) -> None:
        option = {"name": "o", "type": "int", "default": "7", "description": "d", "dynamic": True}
        read = read_manifest(self.manifest(options=[option], hooks=["custommsg"], subscriptions=["connect"]), "/p")
        assert (read.options[0].default, read.options[0].dynamic, read.options[0].plugin) == (7, True, "/p")
        assert (read.hooks[0].name, read.methods[0].name, read.dynamic) == ("custommsg", "m", True)

    @pytest.mark.parametrize(
        ("more", "reason"),
        [
            ({"disable": "no"}, "disabled itself: no"),
            ({"rpcmethods": [{"name": "m"}]}, '"usage" not provided by plugin'),
            ({"hooks": [{"name": "no_such_hook"}]}, "Unknown hook name no_such_hook"),
            ({"hooks": [{"name": "db_write"}]}, "does not do the hook db_write"),
            ({"options": [{"name": "o"}]}, "An option is missing"),
            ({"options": [{"name": "o", "type": "float", "description": "d"}]}, "options are supported"),
            ({"options": {}}, "is not an array"),
        ],
    )
    def test_a_bad_one(self, more: dict[str, object], reason: str) -> None:
        with pytest.raises(PluginFailedError, match=reason):
            read_manifest(self.manifest(**more), "/p")


class TestParams:
    spec = (params.Param("id", params.string), params.Param("count", params.number, 5))

    def test_positional_and_named(self) -> None:
        assert params.read_params(self.spec, ["x", "7"]) == {"id": "x", "count": 7}
        assert params.read_params(self.spec, {"count": None, "id": 3}) == {"id": "3", "count": 5}

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ([1, 2, 3], "too many parameters: got 3, expected 2"),
            ({}, "missing required parameter: id"),
            ({"id": 1, "x": 2}, "unknown parameter: x, "),
            ({"id": 1, "count": "many"}, "count: should be an integer: invalid token"),
        ],
    )
    def test_what_is_refused(self, given: object, message: str) -> None:
        with pytest.raises(RpcError) as caught:
            params.read_params(self.spec, given)
        assert caught.value.code == -32602
        assert caught.value.message.startswith(message)

    @pytest.mark.parametrize(
        ("text", "amount"),
        [(5, 5), ("5", 5), ("5msat", 5), ("5sat", 5000), ("1btc", 100_000_000_000), ("0.00000000001btc", 1)],
    )
    def test_amounts(self, text: object, amount: int) -> None:
        assert params.msat(text) == amount

    @pytest.mark.parametrize("text", ["", "-1", "1.5", "5 sat", "x", True, None])
    def test_no_amounts(self, text: object) -> None:
        with pytest.raises(params.BadValueError):
            params.msat(text)

    def test_satoshis_are_whole(self) -> None:
        assert params.sat("2000msat") == 2
        with pytest.raises(params.BadValueError):
            params.sat("2001msat")

    @pytest.mark.parametrize("text", ["02" + "11" * 32, "04" + "11" * 32, "zz", ""])
    def test_a_node_id_is_a_point(self, text: str) -> None:
        with pytest.raises(params.BadValueError):
            params.node_id(text)


class TestKeys:
    def test_a_signature_of_a_real_node_is_understood(self) -> None:
        assert keys.recover("hello", REAL_ZBASE) == REAL_SIGNER
        assert keys.recover("hellO", REAL_ZBASE) != REAL_SIGNER

    def test_signatures_come_back_to_the_signer(self) -> None:
        node = keys.NodeKeys(bytes(range(32)))
        assert keys.recover("m", keys.zbase_signature(*node.sign_message("m"))) == node.node_id

    @given(st.binary(max_size=70))
    def test_zbase32_there_and_back(self, data: bytes) -> None:
        assert keys.zbase32_decode(keys.zbase32_encode(data)) == data

    @pytest.mark.parametrize("text", ["zzz", "", "0" * 104, REAL_ZBASE[:-1]])
    def test_no_signature(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            keys.recover("hello", text)

    def test_secrets_depend_on_the_node_and_the_name(self) -> None:
        one, two = keys.NodeKeys(bytes(32)), keys.NodeKeys(bytes([1] * 32))
        assert len({one.make_secret(b"a"), one.make_secret(b"b"), two.make_secret(b"a")}) == 3


class TestInvoices:
    def test_a_real_invoice_is_understood(self) -> None:
        found = bolt11.decode(REAL_INVOICE)
        assert found.payee == "031745864aadca034f5c429acda6955182b9c931982be2f2f0b156c068a7556f0a"
        assert found.payment_hash == "6474246257e87e56b7d6daa9700167b8cf10fd1678101d009befd24477277e44"
        assert found.payment_secret == "492c7c27099beadc280bb796241e719b6f21bd08901569bff63fc9f31bb79eeb"
        assert (found.amount_msat, found.expires_at, found.description) == (50_000_000, 1795957512, "d")
        assert (found.min_final_cltv, found.features) == (10, "02024100")

    @pytest.mark.parametrize("change", [lambda t: t[:-1] + "q", lambda t: t.replace("500u", "501u"), lambda t: "x" + t])
    def test_a_changed_invoice_is_refused(self, change: object) -> None:
        with pytest.raises(ValueError, match=r"."):
            bolt11.decode(change(REAL_INVOICE))  # type: ignore[operator]

    @given(
        amount=st.none() | st.integers(1, 10**12),
        description=st.text(st.characters(codec="utf-8"), max_size=100),
        expiry=st.integers(1, 10**7),
        secret=st.binary(min_size=32, max_size=32),
    )
    def test_there_and_back(self, amount: int | None, description: str, expiry: int, secret: bytes) -> None:
        node = keys.NodeKeys(bytes(range(32)))
        made = bolt11.Invoice("bcrt", amount, 1_700_000_000, secret.hex(), secret.hex(), description, expiry=expiry)
        read = bolt11.decode(bolt11.encode(made, node))
        assert (read.amount_msat, read.description, read.expiry, read.payment_hash) == (
            amount,
            description,
            expiry,
            secret.hex(),
        )
        assert read.payee == node.node_id

    def test_a_taproot_address_of_a_real_wallet(self) -> None:
        script = "51202247d79f9b75aa3896b5bb8757c9611d7f6595681436930e22012043f8f1f98b"
        assert bech32.taproot_address(script) == "bcrt1pyfra08umwk4r3944hwr40jtpr4lkt9tgzsmfxr3zqysy8783lx9s6mqe6u"


class TestRoutes:
    @staticmethod
    def channel(
        source: str, destination: str, scid: str, base: int = 1, ppm: int = 10, most: int = 10**9
    ) -> dict[str, object]:
        return {
            "source": source,
            "destination": destination,
            "short_channel_id": scid,
            "direction": 0,
            "active": True,
            "base_fee_millisatoshi": base,
            "fee_per_millionth": 10,
            "delay": 6,
            "htlc_minimum_msat": 0,
            "htlc_maximum_msat": 10**9,
        }

    def test_fees_are_paid_to_every_node_but_the_first(self) -> None:
        channels = [self.channel("a", "b", "1"), self.channel("b", "c", "2")]
        hops = find_route(channels, "a", "c", 1_000_000, 9, {"1": 10**9})
        assert hops is not None
        assert [(hop.node_id, hop.amount_msat, hop.delay) for hop in hops] == [
            ("b", 1_000_011, 15),
            ("c", 1_000_000, 9),
        ]

    def test_the_cheaper_way_wins(self) -> None:
        channels = [
            self.channel("a", "b", "1"),
            self.channel("b", "d", "2", base=500),
            self.channel("a", "c", "3"),
            self.channel("c", "d", "4"),
        ]
        hops = find_route(channels, "a", "d", 1000, 9, {"1": 10**9, "3": 10**9})
        assert hops is not None
        assert [hop.short_channel_id for hop in hops] == ["3", "4"]

    @pytest.mark.parametrize("spendable", [{}, {"1": 999}])
    def test_no_way_without_money(self, spendable: dict[str, int]) -> None:
        assert find_route([self.channel("a", "b", "1")], "a", "b", 1000, 9, spendable) is None

    def test_fee(self) -> None:
        assert fee_msat(50_000_000, 1, 10) == 501

    def test_the_onion_reads_as_recorded(self) -> None:
        layer = {"short_channel_id": "201x1x0", "forward_msat": 50_000_000, "cltv": 218}
        assert onion.payload(layer) == "13020402faf0800401da06080000c90000010000"


class TestChannel:
    def test_it_survives_being_written_down(self) -> None:
        channel = Channel("p", "c", "t", 0, "local", 10**9, 10**9, 0, 110, htlcs=[Htlc(0, "out", 5, "h", 200, 1)])
        again = Channel.from_document(channel.document())
        assert again.document() == channel.document()
        assert isinstance(again.local, Policy)

    def test_what_can_be_sent_and_received_keeps_the_reserves(self) -> None:
        channel = Channel("p", "c", "t", 0, "local", 1_000_000, 600_000, 0, 110, state="CHANNELD_NORMAL")
        assert (channel.spendable_msat, channel.receivable_msat) == (590_000, 390_000)
        channel.htlcs.append(Htlc(0, "in", 100_000, "h", 200, 1))
        assert channel.receivable_msat == 290_000


class TestLog:
    def test_a_line_looks_like_lightningd_s(self) -> None:
        entry = Entry("unusual", 1_795_348_967_939_288_824, "plugin-full.py", "hello")
        assert entry.line() == "2026-11-22T12:02:47.939Z UNUSUAL plugin-full.py: hello"
        assert Entry("info", 0, "lightningd", "x").line() == "1970-01-01T00:00:00.000Z INFO    lightningd: x"

    def test_control_characters_are_not_printed(self) -> None:
        assert printable("a\nb\x7fé") == "a?b?é"

    def test_a_level_may_be_for_one_source_only(self, tmp_path: Path) -> None:
        log = LogBook(1000)
        assert log.set_level("debug:echo") is None
        assert log.set_level("loud") == "unknown log level loud"
        log.open([str(tmp_path / "log")])
        log.debug("plugin-echo", "seen")
        log.debug("lightningd", "not seen")
        text = (tmp_path / "log").read_text(encoding="utf-8")
        assert "seen" in text
        assert "not seen" not in text


class TestFilter:
    def test_members_and_entries(self) -> None:
        value = {"a": [{"b": 1, "c": 2}], "d": 3}
        assert apply_filter(value, {"a": [{"b": True}]}) == {"a": [{"b": 1}]}

    @pytest.mark.parametrize("bad", [{"a": "x"}, {"a": [True, True]}, 5])
    def test_what_is_no_filter(self, bad: object) -> None:
        with pytest.raises(RpcError, match="filter"):
            check_filter(bad)


@pytest.mark.parametrize(
    ("condition", "value", "said"),
    [
        ("=", "getinfo", None),
        ("=", "pay", "method is not equal to pay"),
        ("/", "getinfo", "method is equal to getinfo"),
        ("^", "get", None),
        ("^", "list", "method does not start with list"),
        ("$", "info", None),
        ("~", "tin", None),
        ("~", "zz", "method does not contain zz"),
        ("!", "", "method is present"),
        ("#", "a comment", None),
        ("<", "5", "method is not an integer field"),
    ],
)
def test_a_rune_s_condition(condition: str, value: str, said: str | None) -> None:
    assert reason(condition, "method", value, {"method": "getinfo"}) == said


def test_a_rune_s_condition_on_nothing() -> None:
    assert reason("=", "id", "x", {}) == "id not present"
    assert reason("!", "id", "", {}) is None
    assert reason("<", "time", "10", {"time": 9}) is None
    assert reason(">", "time", "10", {"time": 9}) == "time is less than or equal to 10"


def test_a_preimage_is_what_its_hash_says() -> None:
    key = bytes.fromhex("699d1f04abfa3e8892e0879884b2c5710b89b0bb64cabea47e7ec203db1eb27a")
    assert hashlib.sha256(key).hexdigest() == bolt11.decode(REAL_INVOICE).payment_hash
