import asyncio
from concurrent.futures import ProcessPoolExecutor


async def main():
    with ProcessPoolExecutor() as executor:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(executor, lambda: 42)  # expect: FL011
        await loop.run_in_executor(None, lambda: 42)
        await loop.run_in_executor(executor, abs, 42)


asyncio.run(main())
