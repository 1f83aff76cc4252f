"""Exports against transformers and PEFT: every folder under the given ones that holds `expected.json` is loaded, and
its logits, token ids and rendered conversations are compared with what was written beside it.

    pip install torch transformers peft
    cargo run --release -p postgrad-reason --example export_check -- fixtures/chat/model-chatml out/chatml
    python benches/peers/check_exports.py out

Run it under transformers 4 and under transformers 5. An exit status other than 0 says that something differs.
"""
import json
import sys
import warnings
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

LOGITS = 1e-4  # relative to the largest, as in fixtures/README.md
DTYPE = "torch_dtype" if transformers.__version__.startswith("4.") else "dtype"

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)


def relative(got, want):
    return ((got - want).abs().max() / want.abs().max()).item()


def load(name):
    """The model in float32. What its loading complained of is an error."""
    model, report = AutoModelForCausalLM.from_pretrained(
        name, attn_implementation="eager", output_loading_info=True, **{DTYPE: torch.float32}
    )
    assert not any(report.values()), f"loaded with {report}"
    return model.eval()


def check_model(folder, notes):
    expected = load_file(folder / "expected.safetensors")
    model = load(notes.get("model", str(folder)))
    with torch.no_grad():
        if notes.get("adapter"):
            from peft import PeftConfig, PeftModel

            named = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
            assert named == notes["model"], f"the adapter names {named}"
            before = model(input_ids=expected["input_ids"]).logits
            away = relative(before, expected["logits"])
            assert away > 100 * LOGITS, f"the adapter hardly changes the model ({away:.1e}): nothing would be shown"
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # PEFT warns of keys that it misses
                model = PeftModel.from_pretrained(model, str(folder)).eval()
        return relative(model(input_ids=expected["input_ids"]).logits, expected["logits"])


def check_texts(name, notes):
    """Number of comparisons. The first that fails is an error."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    done = 0

    def same(what, got, want):
        nonlocal done
        done += 1
        assert got == want, f"{what}: transformers {got!r}, expected {want!r}"

    for row in notes["texts"]:
        if "messages" in row:
            options = {"add_generation_prompt": row["add_generation_prompt"]}
            text = tokenizer.apply_chat_template(row["messages"], tokenize=False, **options)
            same("chat text", text, row["text"])
            ids = tokenizer.apply_chat_template(row["messages"], tokenize=True, return_dict=True, **options)
            same("chat ids", ids["input_ids"], row["ids"])
            continue
        same("ids", tokenizer(row["text"], add_special_tokens=False).input_ids, row["ids"])
        same("document ids", tokenizer(row["text"]).input_ids, row["document_ids"])
        for key, skip in [("decoded", False), ("decoded_without_special", True)]:
            text = tokenizer.decode(row["ids"], skip_special_tokens=skip)
            same(key, text, row[key])
    return done


def needs_5(name):
    config = json.loads((Path(name) / "tokenizer_config.json").read_text(encoding="utf-8"))
    return config.get("tokenizer_class") == "TokenizersBackend" and transformers.__version__.startswith("4.")


def main():
    found = [(top, path.parent) for top in sys.argv[1:] for path in sorted(Path(top).rglob("expected.json"))]
    if not found:
        sys.exit(f"no expected.json under {sys.argv[1:]}")
    versions = [f"transformers {transformers.__version__}", f"torch {torch.__version__}"]
    try:
        import peft

        versions.append(f"peft {peft.__version__}")
    except ImportError:
        versions.append("no peft")
    print(", ".join(versions))
    print(f"{'folder':<36} {'logits':>9}  tokenizer and template")
    bad = unread = 0
    for top, folder in found:
        notes = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
        errors = []
        logits = texts = "-"
        try:
            far = check_model(folder, notes)
            logits = f"{far:.1e}"
            if not far < LOGITS:
                errors.append(f"logits differ by {far:.1e}")
        except Exception as e:  # noqa: BLE001 - whatever keeps a folder from loading is a row of the table
            errors.append(f"model: {type(e).__name__}: {e}")
        name = notes["model"] if "model" in notes and not notes.get("adapter") else str(folder)
        if notes["texts"] and needs_5(name):
            unread += 1
            texts = "not loaded: the files, copied as given, name a class of transformers 5"
        elif notes["texts"]:
            try:
                texts = f"{check_texts(name, notes)} equal"
            except Exception as e:  # noqa: BLE001
                errors.append(f"tokenizer: {type(e).__name__}: {e}")
        print(f"{str(folder.relative_to(top)):<36} {logits:>9}  {texts}", flush=True)
        for error in errors:
            print(f"    FAILS: {error[:600]}", flush=True)
        bad += bool(errors)
    more = f", {unread} of them without their tokenizer" if unread else ""
    print(f"{len(found) - bad} of {len(found)} agree{more}")
    sys.exit(1 if bad else 0)


main()
