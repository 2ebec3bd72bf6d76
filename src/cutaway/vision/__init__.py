"""What neurons of image models respond to, drawn, attacked and measured."""

__all__: list[str] = []
