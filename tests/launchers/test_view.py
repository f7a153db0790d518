from launchers.view import numbers_text


def test_numbers_of_a_running_step() -> None:
    assert numbers_text({"done": 3, "total": 40, "loss": 0.51234, "tokens_per_second": 12345.6, "seconds_left": 9}) == (
        "3/40  loss 0.512  12,346 tokens/s"
    )
    heard = {"done": 512, "total": 35_155, "hours": 1.74, "hours_per_hour": 218.4}
    assert numbers_text(heard) == "512/35155  1.7 h of audio  218 h/h"
    assert numbers_text({}) == ""
