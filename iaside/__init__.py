"""Which frequency bands an image classifier relies on, and whether that tells how it breaks.

The public names and their modules are listed in `__init__.pyi`, in the order of the story: a model
and images, the spectrum cut into bands, the game of bands, its values, the score. Each is imported
when it is used, so that `import iaside` costs nothing.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
