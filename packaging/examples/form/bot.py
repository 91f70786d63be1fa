#!/usr/bin/env python3
"""A robot with a window of its own: a Tk program that fills in its form and hands in a picture.

Needs of the host: python3-tk.
"""

import subprocess
import sys
import tkinter

GREEN, YELLOW = "#2e7d32", "#f9c80e"
WIDTH, HEIGHT = 600, 400


def form(root):
    """Two areas, one above the other, and the field that the robot fills in."""
    root.title("Delivery note")
    root.geometry(f"{WIDTH}x{HEIGHT}+40+60")
    top = tkinter.Label(root, text="Delivery note", font=("sans-serif", 32), bg=GREEN, fg="white")
    top.place(relwidth=1, relheight=0.5)
    bottom = tkinter.Frame(root, bg=YELLOW)
    bottom.place(rely=0.5, relwidth=1, relheight=0.5)
    field = tkinter.Entry(bottom, font=("sans-serif", 18))
    field.place(relx=0.1, rely=0.3, relwidth=0.8)
    return field


def main():
    root = tkinter.Tk()
    field = form(root)

    def fill_in():
        field.insert(0, "17 parcels for Harbour Bakery")
        # All that was drawn is at the display before the picture is asked for.
        root.update()
        subprocess.run(["robotjob", "screenshot"], check=True, stdout=subprocess.DEVNULL)
        print(f"filled in: {field.get()}", flush=True)
        root.destroy()

    # The window manager shows the window when it has framed it.
    root.wait_visibility()
    root.after_idle(fill_in)
    root.mainloop()


if __name__ == "__main__":
    try:
        main()
    except Exception as problem:
        subprocess.run(["robotjob", "error", "--kind", type(problem).__name__, str(problem)])
        sys.exit(f"{problem}")
