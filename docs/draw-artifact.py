#!/usr/bin/env python3
"""Draws static/artifacts/cast.pgm and writes its digest beside it.

The artifact is a grey picture of 3072 x 2048 pixels (binary PGM, one byte a pixel): sheets of paper, one behind the
other, lit from behind. A picture, so that a half-finished download can be seen; uncompressed, so that any byte
can be checked by eye; few tones, so that the repository stays small. Integers only: the same bytes on every machine.

usage: draw-artifact.py [OUTPUT]        (default: static/artifacts/cast.pgm)
"""
import hashlib
import pathlib
import sys

WIDTH, HEIGHT = 3072, 2048
SHEETS = 11
LAMP_X, LAMP_Y, LAMP_RADIUS = 2120, 560, 250
SHADOW_REACH, SHADOW_SLANT = 84, 40
TONE_STEP = 4
LAID_LINES = 16


def main():
    output = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "static/artifacts/cast.pgm")
    picture = b"P5\n%d %d\n255\n" % (WIDTH, HEIGHT) + pixels()
    output.write_bytes(picture)
    digest = hashlib.sha256(picture).hexdigest()
    output.with_name(output.name + ".sha256").write_text(f"{digest}  {output.name}\n")


def pixels():
    sheets = [edge(number) for number in range(SHEETS)]
    rows = bytearray(WIDTH * HEIGHT)
    for x in range(WIDTH):
        rows[x::WIDTH] = column(x, sheets)
    return bytes(rows)


def edge(number):
    """The upper edge of a sheet: for each column, the row where it begins."""
    rest = 640 + number * 128 + number * number * 2
    waves = [(820 + 61 * ((number * 7) % 11), 92 - number * 3), (310 + 23 * ((number * 5) % 7), 26), (133 + 9 * (number % 5), 7)]
    phase = 977 * number * number + 431 * number
    return [rest + sum(wave(x + phase, half, height) for half, height in waves) for x in range(-SHADOW_SLANT, WIDTH + SHADOW_SLANT)]


def wave(x, half, height):
    """A smooth wave of parabolas: `half` columns up, `half` columns down."""
    turn, at = divmod(x, half)
    swing = 4 * height * at * (half - at) // (half * half)
    return swing if turn % 2 else -swing


def column(x, sheets):
    starts = [sheet[x + SHADOW_SLANT] for sheet in sheets]
    shades = [sheet[x + SHADOW_SLANT + slant(x)] for sheet in sheets]
    tones = bytearray(HEIGHT)
    front = -1
    for y in range(HEIGHT):
        while front + 1 < SHEETS and starts[front + 1] <= y:
            front += 1
        tone = backdrop(x, y) if front < 0 else paper(front, y - starts[front])
        if front + 1 < SHEETS:
            tone -= shadow(shades[front + 1] - y)
        tone -= tone % TONE_STEP
        if y % LAID_LINES == 0:
            tone -= 4
        tones[y] = max(0, min(255, tone))
    return tones


def slant(x):
    """Shadows lean away from the lamp."""
    return max(-SHADOW_SLANT, min(SHADOW_SLANT, (LAMP_X - x) // 40))


def backdrop(x, y):
    """The wall and the lamp: rings of light, each darker than the one inside it."""
    square = (x - LAMP_X) ** 2 + (y - LAMP_Y) ** 2
    if square <= LAMP_RADIUS ** 2:
        return 255
    ring = 0
    while ring < 14 and square > (LAMP_RADIUS + 34 * (ring + 1) + 9 * ring * ring) ** 2:
        ring += 1
    return 228 - ring * 6


def paper(number, depth):
    """A sheet's own tone: nearer is darker, and its cut edge catches the light."""
    rim = 26 if depth < 5 else 0
    return 206 - number * 17 + rim - min(depth // 24, 9)


def shadow(distance):
    """What the sheet in front takes from the one behind it."""
    near = max(0, SHADOW_REACH - max(0, distance))
    return 52 * near * near // (SHADOW_REACH * SHADOW_REACH)


if __name__ == "__main__":
    main()
