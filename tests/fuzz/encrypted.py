"""What comes in the homomorphic mode."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from nvflare.apis.shareable import Shareable

import ckks_cases
import secure_cases
from fedward.federation import ckks
from fedward.federation.secure_messages import Receipt
from fedward_flare import ckks_exchange
from fuzz.messages import anything
from fuzz.mutations import changed_bytes
from fuzz.refusals import expect_refusal
from secure_cases import MODEL, NAMES, session


@cache
def ckks_federation() -> tuple[dict[str, ckks_cases.CkksSite], Any, Any, bytes]:
    about = session(rounds=1, length=4)
    sites, agreement = ckks_cases.set_up(about)
    encrypted = sites[NAMES[0]].encrypt(1, np.arange(4, dtype=np.uint32))
    return sites, agreement, encrypted, sites[NAMES[0]].state.ready()[1]


def ckks_messages() -> st.SearchStrategy[Any]:
    _, _, encrypted, context = ckks_federation()
    edges = changed_bytes(encrypted.blocks[0][:400]).map(lambda start: start + encrypted.blocks[0][400:])
    return st.one_of(
        st.tuples(st.just("block"), st.one_of(edges, changed_bytes(encrypted.blocks[0]))),
        st.tuples(st.just("context"), changed_bytes(context)),
        st.tuples(st.just("message"), st.tuples(anything(), anything(), anything())),
        st.tuples(st.just("ends"), st.lists(st.integers(-5, 40), max_size=5)),
    )


def read_ckks(given: tuple[str, Any]) -> None:
    _, agreement, _, context = ckks_federation()
    kind, content = given
    match kind:
        case "block":
            expect_refusal(lambda: _add_block(content))
            expect_refusal(lambda: ckks.decrypt([content], context, length=4))
        case "context":
            expect_refusal(lambda: ckks.check_secret(content))
            expect_refusal(lambda: ckks_cases.ServerSum(agreement, 1, model_sha256=MODEL, context=content))
        case "ends":
            message = Shareable()
            message["fedward.blocks"] = np.zeros(30, np.uint8)
            message["fedward.block_ends"] = np.array(content, np.int64)
            expect_refusal(lambda: ckks_exchange.unpack_sum(message))
        case "message":
            message = Shareable()
            message.update(dict(zip(("fedward.blocks", "fedward.block_ends", "fedward.receipt"), content, strict=True)))
            message["fedward.total"] = message["fedward.total_sha256"] = content[0]
            message["fedward.round"], message["fedward.receipts"], message["fedward.votes"] = 1, [], []
            for unpack in (
                ckks_exchange.unpack_sum,
                ckks_exchange.unpack_digest,
                ckks_exchange.unpack_total,
                ckks_exchange.unpack_ask,
            ):
                expect_refusal(lambda unpack=unpack: unpack(message))


def _add_block(block: bytes) -> None:
    """Let a hospital sign what is no ciphertext, and the server add it to an honest one."""
    sites, agreement, encrypted, _ = ckks_federation()
    other = sites[NAMES[1]]
    receipt = other_receipt(other, block)
    server = ckks_cases.server_of(agreement)
    server.receive(NAMES[0], encrypted)
    server.receive(NAMES[1], ckks.Encrypted(receipt, (block,)))
    server.close()


def other_receipt(site: ckks_cases.CkksSite, block: bytes) -> Receipt:
    _, _, encrypted, _ = ckks_federation()
    signer = secure_cases.Site(site.signer, site.roster)
    digest = ckks.hash_blocks([block])
    honest: Receipt = signer.sign_vector(1, np.zeros(1, np.uint32), context=encrypted.receipt.context).receipt
    content = secure_cases.receipt_content(honest.site, 1, context=encrypted.receipt.context, vector_sha256=digest)
    signature = site.signer.sign(content, purpose="secure-sum-vector")
    return honest.model_copy(update={"vector_sha256": digest, "signature": signature})
