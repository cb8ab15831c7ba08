/* What any loader has to do at least: a library without Python, with one function. */
int
answer(void)
{
    return 42;
}
