from client import ModelFailed


def test_a_message_is_one_line_that_a_terminal_can_show():
    said = str(ModelFailed("a\nb\t c \x1b[31mred\x07"))
    assert said == "a b c \ufffd[31mred\ufffd"


def test_a_long_message_keeps_its_beginning_and_what_to_do():
    said = str(ModelFailed("model 'a' " + "x" * 50_000 + ": deploy it again"))
    assert len(said) <= 1_000
    assert said.startswith("model 'a' xxx")
    assert said.endswith("xxx: deploy it again")
