"""Make docs/images/coloured.jpg, the picture on the first page, by `python docs/picture.py`."""

from pathlib import Path

from PIL import Image

from tinct.colorize import Colorizer
from tinct.data.photos import photographs
from tinct.demo import sheet_of

TARGET = Path(__file__).parent / "images" / "coloured.jpg"

if __name__ == "__main__":
    sheet = sheet_of(Colorizer.load("tinct-small", "cpu"), photographs().values())
    Image.fromarray(sheet).save(TARGET, quality=90)
