from auscult.pipeline.writer import main

main()
